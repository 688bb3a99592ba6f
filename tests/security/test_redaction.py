"""Secrets are cut out of what processes tell, by name and by form, and a line stays one line."""

import io
import json
import logging
import sys

import pytest
import structlog
from hypothesis import HealthCheck, given
from hypothesis import settings as given_settings
from hypothesis import strategies as st

from bus import credentials, redaction, telemetry
from bus.redaction import REDACTED
from bus.settings import Settings

API_KEY = credentials.new_credential("key")
JWT = (
    "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJlLW9mLWEtdGVzdA"  # pragma: allowlist secret
)
PEM = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEI\n-----END PRIVATE KEY-----"  # pragma: allowlist secret
TOLD = [
    (API_KEY.text, credentials.read_credential("key", API_KEY.text)[1]),
    ("ss_0123456789abcdef_" + "Ab3" * 14 + "_0011aabb", "Ab3" * 14),
    ("sr_0123456789abcdef_" + "Zz9" * 14, "Zz9" * 14),
    (JWT, "c2lnbmF0dXJlLW9mLWEtdGVzdA"),
    ("postgresql://app_user:hunter2-long@h:5432/d", "hunter2-long"),  # pragma: allowlist secret
    # pragma: allowlist nextline secret
    ("redis://:hunter2-long@h/0", "hunter2-long"),
    # pragma: allowlist nextline secret
    ("nats://a:hunter2-long@h:4222,nats://b:hunter2-long@h:4223", "hunter2-long"),
    ("Authorization: Bearer abcdef0123456789", "abcdef0123456789"),
    ("authorization: basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
    (PEM, "MC4CAQAwBQYDK2VwBCIEI"),
    ("connect failed: password=hunter2-long host=h", "hunter2-long"),
    ('{"password": "hunter2-long"}', "hunter2-long"),  # pragma: allowlist secret
    ("https://h/cb?token=hunter2-long&x=1", "hunter2-long"),
    ("key sk-proj-abcdefghijklmnopqrst", "abcdefghijklmnopqrst"),
    ("seed SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY", "SUACSSL3UAHU"),
]
PLAIN = [
    "http://127.0.0.1:8009/api/v1/agents",
    "0192f0c0-0000-7000-8000-000000000001",
    "agents.create took 12 ms",
    "a token budget of 5 tokens: basic idea",
    "https://h/a?page=2",
    "sealed1.5e1f09ac",
]


@pytest.mark.parametrize(("told", "secret"), TOLD, ids=range(len(TOLD)))
def test_a_secret_is_cut_out_of_any_text(told, secret):
    for around in (told, f"before {told} after", f"'{told}'", f"\n{told}\n"):
        cut = redaction.text(around)
        assert secret not in cut
        assert REDACTED in cut


@pytest.mark.parametrize("told", PLAIN)
def test_other_text_stays(told):
    assert redaction.text(told) == told


def test_the_public_part_of_a_credential_stays_so_that_it_can_be_revoked():
    assert redaction.text(API_KEY.text).startswith(f"sp_{API_KEY.id}_{REDACTED}")


@pytest.mark.parametrize(
    "name",
    ["password", "new_password", "client_secret", "access_token", "Authorization", "api_key",
     "x-api-key", "Set-Cookie", "private_key", "X-Principal"],
)  # fmt: skip
def test_a_field_with_a_secret_name_is_cut_at_any_depth(name):
    event = redaction.value({"a": [{"b": ({name: "hunter2"},)}]})
    assert "hunter2" not in str(event)


@given_settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.recursive(
        st.text() | st.integers() | st.none() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_anything_can_be_redacted_twice_and_be_the_same(told):
    once = redaction.value(told)
    assert redaction.value(once) == once


@pytest.mark.parametrize("hostile", ["eyJ" * 20_000, "a://" * 20_000, "s_" * 40_000, "-----BEGIN " * 9_000, "password=" * 9_000, ":@" * 30_000])  # fmt: skip
@pytest.mark.timeout(20)  # in quadratic time it would take hours
def test_a_hostile_text_takes_linear_time(hostile):
    redaction.text(hostile * 5)


@pytest.fixture
def written():
    """What stands for standard error."""
    return io.StringIO()


@pytest.fixture
def told(monkeypatch, written):
    """What a process wrote to standard error, logged as a process logs it."""
    monkeypatch.setattr(sys, "stderr", written)
    before, handlers = structlog.get_config(), logging.root.handlers[:]
    monkeypatch.setattr(logging.root, "handlers", [])
    telemetry.set_up(Settings(log_level="info"), "test")
    structlog.configure(cache_logger_on_first_use=False)
    logging.root.handlers[:] = [*handlers, *logging.root.handlers]
    yield written.getvalue
    structlog.configure(**before)


@pytest.fixture
def lines(told):
    """The same as events."""
    return lambda: [json.loads(line) for line in told().splitlines()]


@pytest.mark.parametrize(
    "hostile", ["a\r\nb", "\x1b[31mred\x1b[0m", "a\u2028b\u0085c", '"}\n{"x":1']
)
def test_a_line_stays_one_line_without_control_characters(lines, hostile):
    telemetry.log().info("something", value=hostile, **{"na\nme": "x"})
    logging.getLogger("library").warning("told: %s", hostile)
    try:
        raise ValueError(hostile)
    except ValueError:
        telemetry.log().error("failed", exc_info=sys.exc_info())
    told = lines()
    assert [line["event"].partition(":")[0] for line in told] == ["something", "told", "failed"]
    assert told[0]["value"] == hostile


def test_control_characters_reach_no_terminal(told):
    telemetry.log().info("x", value="\x1b[2J\x07\x00\x9b2J\x7f")
    logging.getLogger("library").warning("\x1b[2J\x07")
    assert told()
    assert not set(told()) & set(map(chr, (*range(10), *range(11, 32), *range(127, 160))))


def test_an_exception_in_a_line_is_redacted(lines):
    def fail():
        raise ConnectionError(f"cannot reach redis://:hunter2@h with {API_KEY.text}")

    try:
        fail()
    except ConnectionError:
        telemetry.log().error("failed", exc_info=True)
        logging.getLogger("library").exception("also with %s", JWT)
    told = json.dumps(lines())
    assert "ConnectionError" in told
    for secret in ("hunter2", API_KEY.text, JWT):
        assert secret not in told


def test_every_read_of_a_secret_is_one_line_without_its_value(
    lines, written, monkeypatch, tmp_path
):
    from bus.settings import load

    (tmp_path / "portal_redis_url").write_text("redis://:hunter2@h")
    monkeypatch.setenv("PORTAL_SECRETS", str(tmp_path))
    settings = load()
    monkeypatch.setattr(sys, "stderr", written)  # pytest has put its own there again
    telemetry.set_up(settings, "test")
    structlog.configure(cache_logger_on_first_use=False)
    settings.again("redis_url")
    told = [line for line in lines() if line["event"] == "secret read"]
    assert [(line["name"], line["provider"]) for line in told] == [("redis_url", "files")] * 2
    assert "hunter2" not in json.dumps(told)
