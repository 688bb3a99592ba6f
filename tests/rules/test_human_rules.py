"""Decisions about the inbox, and that a hash stands for one content in one form."""

import hashlib
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.human import rules
from handlers.human.rules import MOVES
from schemas.contract import Problem
from schemas.human import AnswerTask, AskPerson, canonical, sha256_of
from schemas.principal import Principal

AT = datetime(2026, 11, 23, tzinfo=UTC)
TASK_ID = "01900000-0000-7000-8000-000000000000"
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def person(name="ada", **more):
    return Principal(**{"id": name, "kind": "user", "roles": ("viewer",)} | more)


def task(**fields):
    command = AskPerson(**{"id": TASK_ID, "owner_id": "ada", "title": "?", "question": 1} | fields)
    return rules.asked(command, None, AT)


def shuffled(value):
    """The same content, written in another order and with whole numbers as fractions."""
    if isinstance(value, dict):
        return {key: shuffled(inner) for key, inner in reversed(value.items())}
    if isinstance(value, list):
        return [shuffled(inner) for inner in value]
    return float(value) if type(value) is int else value


@settings(max_examples=50, deadline=None)
@given(VALUES)
def test_a_content_has_one_hash_however_it_is_written_and_stored(content):
    assert sha256_of(content) == sha256_of(shuffled(content))
    assert sha256_of(content) == sha256_of(json.loads(json.dumps(content)))
    assert sha256_of(content) == sha256_of(json.loads(canonical(content)))
    assert sha256_of(content) == hashlib.sha256(canonical(content).encode()).hexdigest()


@settings(max_examples=50, deadline=None)
@given(VALUES, VALUES)
def test_two_contents_that_differ_have_two_hashes(one, other):
    assert (sha256_of(one) == sha256_of(other)) == (canonical(one) == canonical(other))
    assert sha256_of([one]) != sha256_of(one)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(
    st.sampled_from(["ask", "ask other", "claim", "release", "delegate", "answer", "expire"]),
    st.sampled_from(["ada", "bob", "eve"]), st.integers(0, 40),
), max_size=12))  # fmt: skip
def test_whatever_is_tried_only_moves_of_the_table_happen_and_answers_stay(tries):
    now, asks = AT, {"expires_at": AT + timedelta(seconds=100)}
    current = task(**asks)
    for verb, name, later_s in tries:
        now += timedelta(seconds=later_s)
        before = current
        try:
            current = attempt(verb, before, person(name), now, asks) or before
        except Problem:
            continue
        if current is before:
            continue
        assert current.version == before.version + 1
        assert current.status in MOVES[before.status]
        assert (current.status == "answered") == (current.answered_by is not None)
        if current.status == "answered":
            assert before.claimed_by in (None, name)
            assert now < before.expires_at


def attempt(verb, before, who, now, asks):
    if verb.startswith("ask"):
        question = 1 if verb == "ask" else before.question + 1
        fields = {"id": TASK_ID, "owner_id": "ada", "title": "?", "question": question}
        asks["expires_at"] = now + timedelta(seconds=100)
        return rules.asked(AskPerson(**fields, **asks), before, now)
    if verb == "expire":
        return rules.moved(before, "expired", now) if rules.overdue(before, now) else None
    return {
        "claim": lambda: rules.claimed(before, who, now),
        "release": lambda: rules.released(before, now),
        "delegate": lambda: rules.delegated(before, "bob", who, now),
        "answer": lambda: rules.answered(before, AnswerTask(id=TASK_ID, answer=1), who, now),
    }[verb]()


def test_a_task_concerns_its_owner_and_those_it_is_meant_for():
    given = task(assignee_id="bob", for_role="operator")
    assert [rules.concerns(given, p) for p in (
        person(), person("bob"), person("eve", roles=("operator",)), person("eve"),
    )] == [True, True, True, False]  # fmt: skip
    assert not rules.concerns(task(), person("eve", roles=()))


@pytest.mark.parametrize("kind", ["agent", "service", "client", "anonymous"])
def test_only_people_and_their_keys_answer(kind):
    with pytest.raises(Problem) as refused:
        rules.answered(task(), AnswerTask(id=TASK_ID), person(kind=kind), AT)
    assert refused.value.code == "ERR_300"
