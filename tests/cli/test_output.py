"""What people and programs see: tables, lines, problems, exit statuses."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edge.cli import completion, exits, output, program
from edge.cli.derived import verdict
from edge.cli.door import Refusal

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
AGENTS = {
    "items": [
        {"id": "1", "version": 3, "running": 0, "name": "bob", "status": "idle", "reason": None,
         "created_at": NOW.isoformat()},
        {"id": "2", "version": 1, "running": 2, "name": "eve", "status": "busy", "reason": None,
         "created_at": NOW.isoformat()},
    ],
    "next": "abc",
}  # fmt: skip


def test_columns_name_first_times_last_and_nothing_that_is_empty() -> None:
    names = output.columns(output.items_of(AGENTS))
    assert names == ["id", "name", "status", "running", "created_at"]


def test_json_output_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    output.show(AGENTS, as_json=True)
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["bob", "eve"]


def test_people_get_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    output.show(AGENTS, as_json=False)
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["id", "name", "status"]
    assert first.split()[:3] == ["1", "bob", "idle"]
    assert second.split()[:3] == ["2", "eve", "busy"]


def test_markup_in_values_is_only_text(capsys: pytest.CaptureFixture[str]) -> None:
    output.show({"items": [{"id": "[red]x[/red]", "name": "[/]"}]}, as_json=False)
    output.show({"id": "1", "title": "[/b]", "text": "[red]y"}, as_json=False)
    printed = capsys.readouterr().out
    assert "[red]x[/red]" in printed
    assert "[red]y" in printed


def test_one_thing_shows_its_lists_as_tables(capsys: pytest.CaptureFixture[str]) -> None:
    output.show({"ok": False, "entities": [{"entity": "agent", "gaps": ["7"]}]}, as_json=False)
    printed = capsys.readouterr().out
    assert "entities" in printed
    assert "agent" in printed


@pytest.mark.parametrize(
    ("age", "text"),
    [
        (5, "5 s ago"),
        (61, "1 min ago"),
        (7200, "2 h ago"),
        (200_000, "2 d ago"),
        (-9, "0 s ago"),
        (-61, "in 1 min"),
        (-200_000, "in 2 d"),
    ],
)
def test_times_are_distances(age: int, text: str) -> None:
    assert output.ago((NOW - timedelta(seconds=age)).isoformat(), NOW) == text


def test_a_problem_has_code_message_details_and_hint(capsys: pytest.CaptureFixture[str]) -> None:
    body = {"code": "ERR_001", "message": "No [such] thing", "details": {"id": 7}}
    output.say_refusal(Refusal(404, body), as_json=False)
    said = capsys.readouterr()
    assert said.out == ""
    assert "ERR_001 No [such] thing" in said.err
    assert "id: 7" in said.err
    assert "hint:" in said.err


def test_a_problem_as_json_is_an_object_on_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.say_refusal(Refusal(409, {"code": "ERR_411", "retryable": True}), as_json=True)
    said = capsys.readouterr()
    assert said.out == ""
    assert json.loads(said.err)["error"]["code"] == "ERR_411"


def test_a_check_that_failed_is_status_1() -> None:
    assert verdict({"ok": False}) == exits.PROBLEM
    assert verdict({"ok": True}) == verdict({"id": "1"}) == verdict(b"") == exits.OK


def test_without_an_installation_the_status_is_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PORTAL_DATA", str(tmp_path))
    monkeypatch.delenv("PORTAL_URL", raising=False)
    assert program.run(["agents", "list"]) == exits.NOT_RUNNING
    assert "make run" in capsys.readouterr().err


def test_where_nobody_listens_the_status_is_3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTAL_URL", "http://127.0.0.1:9")
    assert program.run(["agents", "list", "--json"]) == exits.NOT_RUNNING


def test_completion_knows_commands_verbs_options_and_values() -> None:
    found = completion.tables()
    assert {"agents", "up", "prove"} <= set(found[""])
    assert {"create", "list"} <= set(found["agents"])
    assert {"--status", "--all"} <= set(found["agents list"])
    assert "busy" in found["agents list --status"]
    assert "crash" in found["prove"]


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [("portal ag", "agents"), ("portal agents cr", "create"), ("portal agents list --st", "--status"),
     ("portal agents list --status bu", "busy")],
)  # fmt: skip
def test_bash_completes(typed: str, wanted: str) -> None:
    import subprocess

    words = " ".join(typed.split())
    probe = (
        f"{completion.script('bash')}\nCOMP_WORDS=({words}); "
        'COMP_CWORD=$((${#COMP_WORDS[@]}-1)); _portal; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", probe], capture_output=True, text=True, check=True)
    assert wanted in done.stdout.split()


def test_help_is_quick() -> None:
    import resource
    import subprocess
    import sys

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "edge.cli", "--help"], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5
