"""What the documents say is so: titles, links, and every command and name they mention."""

import re

import pytest

from tests.tidy import mentions, project
from tests.tidy.project import ROOT

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
DOCUMENTS = project.documents()


@pytest.fixture(params=DOCUMENTS, ids=str)
def document(request):
    return request.param


@pytest.fixture
def text(document):
    return project.read(document)


def known(text, name):
    return any(name.endswith(invented) for invented in project.invented(text))


def test_a_document_has_exactly_one_title(text):
    assert len(re.findall(r"^# \S", project.prose(text), re.MULTILINE)) == 1


def test_relative_links_lead_somewhere(document, text):
    broken = []
    for target in LINK.findall(project.prose(text)):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        there = (ROOT / document).parent / path if path else ROOT / document
        if not there.exists() or (anchor and anchor not in anchors(there.read_text())):
            broken.append(target)
    assert broken == []


def anchors(text):
    plain = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in HEADING.findall(text))
    return {re.sub(r"\s", "-", heading) for heading in plain}


def test_make_targets_that_are_named_exist(text):
    named = {target for line in project.code(text) for target in mentions.MAKE.findall(line)}

    assert named <= mentions.targets()


def test_portal_commands_that_are_named_exist(text):
    invented = {name.replace(".", " ") for name in project.invented(text)}
    commands = [words for line in project.code(text) for words in mentions.commands(line)]
    faults = [mentions.fault_in(words) for words in commands if " ".join(words[:2]) not in invented]

    assert [fault for fault in faults if fault] == []


def test_modules_that_are_to_be_run_exist(text):
    modules = {name for line in project.code(text) for name in mentions.MODULE.findall(line)}

    assert [name for name in modules if not mentions.module_exists(name)] == []


def test_subjects_that_are_mentioned_are_in_use(text):
    subjects = {s for line in project.code(text) for s in mentions.SUBJECT.findall(line)}
    wrong = {s for s in subjects if not mentions.subject_exists(s) and not known(text, s)}

    assert wrong == set()


def test_settings_that_are_mentioned_are_read_by_a_program(text):
    assert set(mentions.SETTING.findall(text)) <= mentions.settings()


def test_problem_codes_that_are_mentioned_exist(text):
    assert set(mentions.CODE.findall(text)) <= mentions.codes()


def test_files_that_are_named_exist(text):
    paths = {path for line in project.code(text) for path in mentions.PATH.findall(line)}

    assert [p for p in sorted(paths) if not (ROOT / p).exists() and not known(text, p)] == []


def test_the_architecture_is_read_in_one_sitting():
    assert len(project.read(project.Path("ARCHITECTURE.md")).splitlines()) <= 200


def test_a_mention_of_what_does_not_exist_is_found():
    assert mentions.fault_in(["goals", "fly"])
    assert mentions.fault_in(["goals", "run", "x", "--no-such-option"])
    assert mentions.fault_in(["goals", "run", "x", "--attach", "a.md"]) is None
    assert not mentions.subject_exists("req.goals.fly")
    assert not mentions.subject_exists("evt.goals.submitted.id.more")
    assert mentions.subject_exists("evt.goals.>")
    assert mentions.subject_exists("evt.goals.submitted")
    assert mentions.commands(".venv/bin/portal status --json | jq .ready") == [["status", "--json"]]
