"""The engine over thousands of bad worlds, and that planted bugs do not pass."""

import os
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from handlers.workflows import engine
from handlers.workflows.engine import (
    ABANDONED,
    UNDO,
    BeginUndo,
    Decision,
    Record,
    State,
    decide,
)
from handlers.workflows.retrying import after_failure
from schemas.workflows.document import Document, MapStep
from tests.rules.workflow_documents import BEGAN, Simulation, undone

SCHEDULES = int(os.environ.get("PORTAL_SCHEDULES", "2500"))
BATCHES = 10


def check(simulation: Simulation) -> None:
    """What must hold of every run, whatever happened to it."""
    seed, final = simulation.seed, simulation.final
    assert final is not None
    done = [path for path, status in simulation.history if status == "done"]
    assert max(Counter(done).values(), default=1) == 1, f"seed {seed}: done twice"
    assert not simulation.doing, f"seed {seed}: {sorted(simulation.doing)} goes on after the end"
    waiting = [p for p, r in simulation.records.items() if r.status == "waiting"]
    if final.status == "succeeded":
        assert not waiting, f"seed {seed}: {waiting} is waited for after a good end"
    for path, record in simulation.records.items():
        step = step_of(simulation.document, path.removesuffix(UNDO))
        tried = step["undo"] if path.endswith(UNDO) else step
        allowed = tried.get("retry", {}).get("attempts", 1)
        assert record.attempt <= allowed, f"seed {seed}: {path} {record}"
    check_undo(simulation)
    again = decide(simulation.document, simulation.state())
    assert again.begin == [], f"seed {seed}: {again.begin} would begin after the end"
    assert again.outcome == final.outcome, f"seed {seed}: another end when asked again"


def check_undo(simulation: Simulation) -> None:
    """What was done and can be taken back is, the last first, if the run was taken back."""
    seed, final = simulation.seed, simulation.final
    assert final is not None
    taken = undone(simulation)
    ended = [p for p, status in simulation.history if status == "done" and not p.endswith(UNDO)]
    assert taken == sorted(taken, key=ended.index, reverse=True), f"seed {seed}: order of undo"
    if final.status == "undone":
        can = {p for p in ended if step_of(simulation.document, p).get("undo")}
        assert set(taken) == can, f"seed {seed}: taken back {taken}, not {can}"
    if final.status == "succeeded":
        assert taken == [], f"seed {seed}: taken back though it succeeded"


def step_of(document: Document, path: str) -> dict[str, Any]:
    """The step of a path, as JSON."""
    key, found = path.rpartition(".")[2], list[dict[str, Any]]()

    def look(value: Any) -> None:
        if isinstance(value, dict):
            if value.get("key") == key:
                found.append(value)
            value = list(value.values())
        for inner in value if isinstance(value, list) else ():
            look(inner)

    look(document.model_dump(mode="json"))
    return found[0]


@pytest.mark.parametrize("batch", range(BATCHES))
def test_every_run_ends_well_or_says_why_and_no_step_is_done_twice(batch: int) -> None:
    for seed in range(batch, SCHEDULES, BATCHES):
        simulation = Simulation(seed, fails=(seed % 4) * 0.1, crashes=(seed % 3) * 0.1)
        simulation.run()
        check(simulation)


def test_the_worlds_are_of_all_kinds() -> None:
    """A simulator whose runs all end alike proves nothing."""
    ends = Counter[str]()
    for seed in range(300):
        simulation = Simulation(seed, fails=0.15, crashes=0.1)
        ends[simulation.run().status] += 1
        ends["crashed"] += len(simulation.begun) > len(set(simulation.begun))
        ends["abandoned"] += any(
            (r.error or {}).get("code") == ABANDONED for r in simulation.records.values()
        )
        ends["mapped"] += any(isinstance(s, MapStep) for s in simulation.document.steps)
    assert min(ends[kind] for kind in (
        "succeeded", "failed", "undone", "crashed", "abandoned", "mapped",
    )) >= 3, ends  # fmt: skip


class Remembers:
    """Decides with what it keeps of one run, as a driver does, and as if it kept nothing."""

    def __init__(self) -> None:
        self.over: engine.Over = {}

    def __call__(self, document: Document, state: State) -> Decision:
        decision = decide(document, state, self.over)
        assert decision == decide(document, state)
        return decision


def test_what_is_kept_of_items_that_are_over_changes_no_decision() -> None:
    kept = 0
    for seed in range(600):
        remembers = Remembers()
        Simulation(seed, fails=0.2, crashes=0.1, decide=remembers).run()
        kept += len(remembers.over)
    assert kept > 100


def forgets_what_is_done(document: Document, state: State) -> Decision:
    """Planted: begins again what is done, when it was done at the third attempt."""
    steps = {p: r for p, r in state.steps.items() if r.status != "done" or r.attempt < 3}
    return decide(document, replace(state, steps=steps))


def begins_twice(document: Document, state: State) -> Decision:
    """Planted: does not see what is being done."""
    steps = {p: r for p, r in state.steps.items() if r.status != "started"}
    return decide(document, replace(state, steps=steps))


def skips_an_undo(document: Document, state: State) -> Decision:
    """Planted: the first thing to take back is left."""
    decision = decide(document, state)
    if decision.status == "undoing" and not any(p.endswith(UNDO) for p in state.steps):
        for begin in decision.begin:
            steps = dict(state.steps) | {begin.path: Record("done", finished_at=state.at)}
            return decide(document, replace(state, steps=steps))
    return decision


def undoes_the_first_first(document: Document, state: State) -> Decision:
    """Planted: times of ending are read upside down."""
    if state.status != "undoing":
        return decide(document, state)
    steps = {
        p: r if r.finished_at is None else replace(r, finished_at=BEGAN - (r.finished_at - BEGAN))
        for p, r in state.steps.items()
    }
    return decide(document, replace(state, steps=steps))


def leaves_waits_open(document: Document, state: State) -> Decision:
    """Planted: what is no longer wanted is not abandoned, so that nobody ends it."""
    decision = decide(document, state)
    decision.abandon = []
    return decision


def ends_too_early(document: Document, state: State) -> Decision:
    """Planted: a failed run does not wait for what has begun."""
    decision = decide(document, state)
    failed = [p for p, r in state.steps.items() if r.status == "failed"]
    if failed and any(r.status == "started" for r in state.steps.values()):
        return Decision(outcome=engine.Outcome(error={"code": "early"}), status="failed")
    return decision


def never_due(document: Document, state: State) -> Decision:
    """Planted: retries are waited for by nobody."""
    decision = decide(document, state)
    decision.due_at = None
    return decision


def tries_for_ever(*given: Any, at: Any, **_: Any) -> Any:
    """Planted: no failure is the last."""
    return at + timedelta(seconds=1)


DECISIONS = (
    forgets_what_is_done, begins_twice, skips_an_undo, undoes_the_first_first, ends_too_early,
    never_due,
)  # fmt: skip


def caught(**planted: Any) -> bool:
    """Whether any of some hundred seeds shows the bug."""
    for seed in range(400):
        simulation = Simulation(seed, fails=0.3, crashes=0.05, **planted)
        try:
            simulation.run()
            check(simulation)
        except AssertionError:
            return True
    return False


@pytest.mark.parametrize("planted", DECISIONS)
def test_a_planted_bug_of_the_engine_is_caught(planted: Any) -> None:
    assert caught(decide=planted)


def test_a_retry_without_end_is_caught() -> None:
    assert caught(retried=tries_for_ever)


def document(*steps: dict[str, Any], **fields: Any) -> Document:
    return Document.model_validate({"steps": steps} | fields)


def state(**records: Record) -> State:
    return State("running", {"n": 2}, {k.replace("__", "."): r for k, r in records.items()}, BEGAN)


def begins(decision: Decision) -> list[str]:
    return [begin.path for begin in decision.begin]


CALL = {"type": "call", "operation": "agents.get"}


def test_a_step_without_after_follows_the_one_before_it() -> None:
    steps = document({"key": "a", **CALL}, {"key": "b", **CALL}, {"key": "c", "after": [], **CALL})
    assert begins(decide(steps, state())) == ["a", "c"]
    assert begins(decide(steps, state(a=Record("done"), c=Record("started")))) == ["b"]


def test_no_more_items_are_under_way_than_the_map_allows() -> None:
    each = {"key": "each", "type": "map", "items": [1, 2, 3, 4], "at_once": 2,
            "steps": [{"key": "x", **CALL}]}  # fmt: skip
    decision = decide(document(each), state())
    assert begins(decision) == ["each[0].x", "each[1].x"]
    steps = {"each[0].x": Record("done"), "each[1].x": Record("started")}
    again = decide(document(each), State("running", {}, steps, BEGAN))
    assert begins(again) == ["each[2].x"]
    [begin] = again.begin
    assert (begin.known["item"], begin.known["index"]) == (3, 2)


def test_a_run_gives_what_its_output_says_or_its_last_step() -> None:
    value = {"key": "a", "type": "set", "value": 1}
    done = state(a=Record("done", output={"b": [1, 2]}))
    assert decide(document(value), done).outcome == engine.Outcome({"b": [1, 2]})
    told = document(value, output={"all": "$.steps.a.output.b[*]", "n": "$.inputs.n"})
    assert decide(told, done).outcome == engine.Outcome({"all": [1, 2], "n": 2})


def test_a_failure_that_is_let_through_is_seen_by_the_steps_behind_it() -> None:
    first = {"key": "a", "on_error": "continue", **CALL}
    steps = document(first, {"key": "b", "when": {"$eq": ["$.steps.a.error.code", "X"]}, **CALL})
    assert begins(decide(steps, state(a=Record("failed", error={"code": "X"})))) == ["b"]


def test_a_failure_that_is_let_through_fails_nothing_though_it_is_the_last_step() -> None:
    last = {"key": "b", "on_error": "continue", **CALL}
    steps = document({"key": "a", **CALL}, last)
    records = state(a=Record("done", output=1), b=Record("failed", error={"code": "X"}))
    decision = decide(steps, records)
    assert (decision.status, decision.outcome) == ("succeeded", engine.Outcome(None))
    inner = {"key": "m", "type": "map", "items": [1], "steps": [last]}
    failed = Record("failed", error={"code": "X"})
    assert decide(document(inner), State("running", {}, {"m[0].b": failed}, BEGAN)).outcome == (
        engine.Outcome([None])
    )


def test_a_value_that_cannot_be_computed_fails_its_step() -> None:
    steps = document({"key": "a", "when": "$.inputs.nothing", **CALL})
    outcome = decide(steps, state()).outcome
    assert outcome is not None
    assert outcome.error is not None
    assert outcome.error["code"] == "ERR_191"
    assert outcome.error["message"] == "There is nothing at $.inputs.nothing."


def test_a_paused_run_begins_nothing() -> None:
    paused = replace(state(), status="paused")
    assert decide(document({"key": "a", **CALL}), paused).begin == []


def test_what_is_taken_back_knows_what_was_done() -> None:
    undo = {"operation": "agents.delete", "input": {"id": "$.output.id"}}
    steps = document({"key": "a", "undo": undo, **CALL}, {"key": "b", **CALL})
    records = state(
        a=Record("done", output={"id": 7}, finished_at=BEGAN),
        b=Record("failed", error={"code": "X"}),
    )
    [begin] = decide(steps, records).begin
    assert isinstance(begin, BeginUndo)
    assert (begin.path, begin.known["output"]) == ("a!undo", {"id": 7})


@pytest.mark.parametrize(
    ("attempt", "code", "retryable"), [(3, "X", True), (1, "NO", True), (1, "X", False)]
)
def test_the_last_attempt_and_what_never_helps_are_not_tried_again(
    attempt: int, code: str, retryable: bool
) -> None:
    retry = Document.model_validate(
        {"steps": [{"key": "a", "retry": {"attempts": 3, "never": ["NO"]}, **CALL}]}
    ).steps[0].retry  # type: ignore[union-attr]  # fmt: skip
    assert after_failure(retry, attempt, code, retryable=retryable, at=BEGAN, spread=1) is None
    assert after_failure(retry, 1, "X", retryable=True, at=BEGAN, spread=1) is not None
