"""The chain of the audit log: whatever is changed, left out, added or moved is found, and where."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from bus.audit import plain
from bus.credentials import new_credential
from handlers.audit.rules import Chain, Walk
from schemas.audit import AuditEntry, Noted

AT = datetime(2026, 11, 23, 7, tzinfo=UTC)
words = st.text(max_size=20)
noted = st.builds(
    Noted,
    at=st.integers(0, 10**12).map(lambda us: AT + timedelta(microseconds=us)),
    door=st.sampled_from(["http", "socket", "bus", "event"]),
    actor=words, via=st.none() | words, action=words, resource=words,
    resource_id=st.none() | words, decision=st.sampled_from(["allow", "deny"]),
    reason=st.none() | words, permission=st.none() | words, policy=words,
    request_id=st.none() | words, address=st.none() | words, credential=st.none() | words,
    details=st.dictionaries(words, st.integers(-(2**53), 2**53) | words, max_size=3),
)  # fmt: skip
logs = st.lists(noted, min_size=1, max_size=8)


def written(log: list[Noted]) -> tuple[list[AuditEntry], Chain]:
    chain = Chain()
    return [chain.append(one) for one in log], chain


def walked(entries: list[AuditEntry], head: Chain, **known: object):
    walk = Walk(**known)
    walk.over(entries)
    return walk.verdict(head)


@given(logs)
def test_what_was_written_is_whole(log):
    entries, head = written(log)

    assert [e.seq for e in entries] == list(range(1, len(log) + 1))
    assert walked(entries, head).model_dump() == {
        "ok": True, "entries": len(log), "last_hash": head.hash, "broken_at": None, "why": None,
    }  # fmt: skip


@given(logs, st.data())
def test_an_entry_that_was_changed_is_named(log, data):
    entries, head = written(log)
    at = data.draw(st.integers(0, len(log) - 1))
    name = data.draw(st.sampled_from(sorted(Noted.model_fields)))
    other = data.draw(noted.filter(lambda n: getattr(n, name) != getattr(log[at], name)))
    entries[at] = entries[at].model_copy(update={name: getattr(other, name)})

    assert walked(entries, head).broken_at == at + 1


@given(logs, st.data())
def test_an_entry_that_is_missing_is_named(log, data):
    entries, head = written(log)
    at = data.draw(st.integers(0, len(log) - 1))
    del entries[at]

    assert walked(entries, head).broken_at == at + 1


@given(logs, logs, st.data())
def test_a_chain_that_was_written_anew_does_not_fit_what_was_written_down(log, other, data):
    entries, _ = written(log)
    at = data.draw(st.integers(0, len(log) - 1))
    anew, head = written([*log[:at], *other])
    if anew[: len(entries)] == entries:
        return

    verdict = walked(anew, head, known_seq=len(log), known_hash=entries[-1].hash)
    assert not verdict.ok


def test_what_looks_like_a_credential_is_blotted_out():
    key = new_credential("key")
    token = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"  # pragma: allowlist secret
    for secret, shown in ((key.text, f"sp_{key.id}_[redacted]"), (token, "[redacted]")):
        assert plain(f"/api/v1/{secret}/x", 512) == f"/api/v1/{shown}/x"


@given(st.text(max_size=600))
def test_a_note_is_one_printable_line_of_bounded_length(text):
    kept = plain(text)

    assert len(kept) <= 200
    assert kept.encode().decode() == kept
    assert not any(c < " " or c in "\x7f\x85\u2028\u2029\u202e" for c in kept)
