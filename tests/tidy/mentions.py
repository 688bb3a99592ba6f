"""What documents say exists, and what exists: commands, subjects, settings, codes, files."""

import argparse
import importlib.util
import re
import shlex
from functools import cache

from bus.settings import Settings
from bus.topology import STREAMS
from edge.cli import program
from schemas import catalogue
from schemas.contract import Problem
from tests.tidy import project

PLACEHOLDER = re.compile(r"[<{…*]")
COMMAND = re.compile(r"(?:^|[\s(])(?:\.venv/bin/)?portal( [^|;&)#]*)?(?=$|[|;&)#])")
MAKE = re.compile(r"(?:^|[;&(] ?)make ([a-z-]+)")
MODULE = re.compile(r"python -m ([\w.]+)")
SUBJECT = re.compile(r"(?<![\w./-])(?:req|evt|job|live|dead|replay)\.[\w.*<>{}…-]+")
SETTING = re.compile(r"\bPORTAL_[A-Z_]*[A-Z]\b")
CODE = re.compile(r"\bERR_\d{3}\b")
FOLDERS = (*project.SHIPPED, "migrations", "tests", "docs", "examples")
PATH = re.compile(rf"(?<![\w/.-])(?:{'|'.join(FOLDERS)})/[\w./-]+[\w/]")


@cache
def targets() -> frozenset[str]:
    """Targets of the Makefile that have a help text."""
    return frozenset(
        re.findall(r"^([a-z-]+):.*##", project.read(project.Path("Makefile")), re.MULTILINE)
    )


def commands(line: str) -> list[list[str]]:
    """The words behind each `portal` in a line of code, up to the first placeholder."""
    found = []
    for match in COMMAND.finditer(line):
        try:
            words = shlex.split(match[1] or "")
        except ValueError:
            words = (match[1] or "").split()
        cut = next((i for i, word in enumerate(words) if PLACEHOLDER.search(word)), len(words))
        found.append(words[:cut] if cut < 2 else words)
    return found


def fault_in(words: list[str]) -> str | None:
    """What is wrong with a `portal` command, if anything."""
    parser = program.build(*program.first_words(words))
    for word in (w for w in words if not w.startswith("-")):
        choices = subcommands(parser)
        if choices is None:
            break
        if word not in choices:
            return f"portal {' '.join(words)}: no {word!r}"
        parser = choices[word]
    options = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    unknown = options - set(parser._option_string_actions)
    return f"portal {' '.join(words)}: no {', '.join(sorted(unknown))}" if unknown else None


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser] | None:
    """What may follow, or None when the command is complete."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return None


def module_exists(name: str) -> bool:
    """Whether `python -m name` finds something."""
    return importlib.util.find_spec(name) is not None


@cache
def subjects() -> tuple[str, ...]:
    """Every subject that is used, with a sample where an id stands."""
    return (
        *(operation.subject for operation in catalogue.operations()),
        *(f"{event.subject_root()}.id" for event in catalogue.events()),
        *(job.subject() for job in catalogue.jobs()),
        *(f"job.{o.name}" for o in catalogue.operations() if o.kind == "task"),
        *(f"live.{o.domain}.id" for o in catalogue.operations() if o.kind == "stream"),
        *(f"dead.{str(s.name).lower()}.consumer" for s in STREAMS),
        *(f"replay.job.{event.name}" for event in catalogue.events()),
    )


def subject_exists(mention: str) -> bool:
    """Whether any subject in use fits the mention, in which `*`, `<x>` and `…` stand for a token."""
    tokens = mention.rstrip(".").split(".")
    return any(fits(tokens, subject.split(".")) for subject in subjects())


def fits(pattern: list[str], subject: list[str]) -> bool:
    """NATS matching, where an id may also be left out at the end."""
    for index, token in enumerate(pattern):
        if token in (">", "…"):
            return index < len(subject)
        if index >= len(subject):
            return False
        if token != subject[index] and not PLACEHOLDER.match(token) and subject[index] != "id":
            return False
    return len(subject) - len(pattern) in (0, int(subject[-1] in ("id", "consumer")))


@cache
def settings() -> frozenset[str]:
    """Every environment variable of ours that any program reads."""
    read = {f"PORTAL_{name.upper()}" for name in Settings.model_fields}
    for file in project.named(".py"):
        if file.parts[0] in project.SHIPPED:
            read |= set(re.findall(r"[\"'](PORTAL_[A-Z_]+)[\"']", project.read(file)))
    return frozenset(read)


@cache
def codes() -> frozenset[str]:
    """Every problem code: of the bus, and of starting an installation."""
    catalogue.problems()
    start = project.read(project.Path("deploy/embedded/refusal.py"))
    return frozenset(Problem.by_code) | frozenset(CODE.findall(start))
