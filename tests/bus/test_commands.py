"""`python -m bus`: what operators do to the servers themselves."""

import json
import subprocess
import sys

import pytest

from bus.__main__ import main
from bus.credentials import ensure_signing_keys
from edge.cli import program
from tests.conftest import ROOT


@pytest.fixture
def portal(settings, monkeypatch, capfd):
    """Run `python -m bus` here against this test's servers; status, output and errors."""
    for name in ("nats_url", "postgres_url", "redis_url"):
        monkeypatch.setenv(f"PORTAL_{name.upper()}", getattr(settings, name).get_secret_value())
    monkeypatch.setenv("PORTAL_ENVIRONMENT", "development")
    monkeypatch.setenv("PORTAL_OLLAMA_URL", settings.ollama_url)
    monkeypatch.setenv("PORTAL_DATA", str(settings.data))
    ensure_signing_keys(settings.data / "secrets")

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["bus", *words])
        try:
            status = main()
        except SystemExit as end:
            status = end.code
        said = capfd.readouterr()
        return status, said.out, said.err

    return run


def test_plan_shows_what_apply_then_makes(portal):
    status, planned, _ = portal("plan")
    assert (status, "create  stream  EVENTS" in planned) == (0, True)
    assert portal("apply")[1] == planned
    assert portal("plan")[1] == "nothing to change\n"


def test_the_doctor_says_what_is_missing_and_what_to_do(portal, bus_server):
    status, said, _ = portal("doctor")
    assert status == 1
    assert "run `python -m bus apply`" in said
    portal("apply")
    status, said, _ = portal("--json", "doctor")
    findings = [json.loads(line) for line in said.splitlines()]
    assert (status, [finding for finding in findings if not finding["ok"]]) == (0, [])
    assert {"postgres", "extensions", "nats", "redis", "models"} <= {f["part"] for f in findings}
    bus_server.kill()
    status, said, errors = portal("doctor")
    assert (status, errors) == (1, "")
    assert "WRONG nats" in said


def test_a_bus_that_does_not_answer_is_one_line(portal, bus_server):
    bus_server.kill()
    assert "the bus does not answer" in str(portal("plan")[0])


def test_the_configuration_is_shown_without_secrets(portal, settings):
    url = settings.postgres_url.get_secret_value()
    for words in (["config"], ["--json", "config"]):
        status, said, _ = portal(*words)
        assert status == 0
        assert "embedding_model" in said
        assert url not in said


def test_every_bad_setting_is_named_before_anything_opens(portal, monkeypatch):
    monkeypatch.setenv("PORTAL_POOL_SIZE", "0")
    monkeypatch.setenv("PORTAL_LOG_LEVEL", "loud")
    status, _, errors = portal("config")
    assert status == 2
    assert "PORTAL_POOL_SIZE" in errors
    assert "PORTAL_LOG_LEVEL" in errors


def test_the_database_goes_down_a_revision_and_up_again(portal, database_url, monkeypatch):
    monkeypatch.setenv("PORTAL_POSTGRES_URL", database_url)
    assert portal("migrate", "0007", "--down")[0] == 0
    assert portal("doctor")[1].count("revision 0007") == 1
    assert portal("migrate")[0] == 0
    assert "revision 0007" not in portal("doctor")[1]


@pytest.mark.parametrize("verb", ["rebuild-stream", "salvage"])
def test_a_repair_does_nothing_unless_somebody_says_yes(portal, verb):
    portal("apply")
    status, said, errors = portal(verb)
    assert (status, said) == (2, "")
    assert "give --yes to do it" in errors


def test_a_repair_ends_with_a_table_or_one_object(portal):
    portal("apply")
    status, said, _ = portal("rebuild-stream", "--yes")
    assert (status, said.split()[:5]) == (0, ["stream", "days", "events", "waiting", "EVENTS"])
    status, said, _ = portal("--json", "rebuild-stream", "--yes", "--days", "3")
    found = {"stream": "EVENTS", "days": 3, "events": 0, "waiting": 0}
    assert (status, json.loads(said)) == (0, found)
    status, said, _ = portal("--json", "salvage", "--yes")
    assert (status, json.loads(said)["ok"], json.loads(said)["read"]) == (0, True, 0)
    assert portal("salvage", "--yes")[0] == 0
    assert "1 to 13" in str(portal("rebuild-stream", "--yes", "--days", "14")[0])


def test_the_repairs_are_commands_of_portal_too(portal, capfd):
    portal("apply")
    for words in (["rebuild-stream", "--days", "2"], ["salvage"]):
        assert program.run(["events", *words, "--yes", "--json"]) == 0
        found = json.loads(capfd.readouterr().out)
        assert (found.get("days"), found.get("ok")) in ((2, None), (None, True))
        assert program.run(["events", *words]) == 2


def test_help_names_every_command():
    asked = [sys.executable, "-m", "bus", "--help"]
    help_text = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for verb in (
        "plan",
        "apply",
        "migrate",
        "rotate-passwords",
        "rebuild-stream",
        "salvage",
        "doctor",
        "config",
    ):
        assert verb in help_text
