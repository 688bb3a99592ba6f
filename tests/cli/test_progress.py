"""What is known of a goal does not depend on the order of its events; what a crash left is counted."""

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from edge.cli import crash
from edge.cli.progress import Progress, seconds

GOAL = {"id": "g", "version": 1, "current_plan_id": "p", "status": "executing"}
PLAN = {"id": "p", "version": 1, "plan_no": 1, "levels": [["a", "b"], ["c"]]}
AT = "2026-01-01T00:00:00Z"


def task(key: str, version: int = 1, **fields: Any) -> dict[str, Any]:
    return {"task": {"id": f"t{key}", "key": key, "plan_id": "p", "version": version,
                     "status": "ready", **fields}}  # fmt: skip


def run(version: int, status: str) -> dict[str, Any]:
    return {"run": {"id": "r", "task_id": "ta", "version": version, "status": status,
                    "created_at": AT}}  # fmt: skip


def step(version: int, **fields: Any) -> dict[str, Any]:
    return {"step": {"id": "s", "run_id": "r", "version": version, "ordinal": 0, "kind": "model",
                     "status": "started", "started_at": AT, **fields}}  # fmt: skip


HISTORY = [
    {"goal": GOAL}, {"plan": PLAN}, task("a"), task("b"), task("c"), run(1, "queued"),
    run(2, "running"), step(1), step(2, status="finished", prompt_tokens=7, completion_tokens=3),
    {"goal": {**GOAL, "version": 2, "status": "completed"}},
    {"run": {"id": "w", "version": 1, "status": "running", "workflow_name": "x"}},
    {"step": {"id": "ta", "version": 1, "status": "started", "run_id": "w", "path": "a"}},
]  # fmt: skip


@given(st.permutations(HISTORY + HISTORY[3:6]))
def test_the_order_of_events_and_doubles_do_not_matter(events: list[dict[str, Any]]) -> None:
    progress = Progress()
    for event in events:
        progress.apply(event)
    assert progress.ended
    assert [[t["key"] for t in level] for level in progress.levels()] == [["a", "b"], ["c"]]
    assert progress.state_of(progress.tasks["ta"]) == "running"
    assert progress.tokens_of(progress.tasks["ta"]) == 10
    assert progress.thinking() is None


def test_a_running_thing_has_taken_as_long_as_until_now() -> None:
    now = datetime(2026, 1, 1, 0, 0, 9, tzinfo=UTC)
    assert seconds({"started_at": AT, "finished_at": None}, "started_at", "finished_at", now) == 9
    assert seconds({"started_at": None}, "started_at", "finished_at", now) is None


def test_a_step_that_goes_on_after_it_was_finished_is_counted_once() -> None:
    log = [{"type": f"agents.step_{what}", "entity_id": "s"}
           for what in ("started", "started", "finished")]  # fmt: skip
    assert crash.redone(log) == 0
    assert crash.redone([*log, log[0], log[2]]) == 1


def test_calls_that_took_effect_twice_are_counted() -> None:
    call = {"task_id": "t", "tool_name": "x", "params_hash": "h", "attempts": 1, "tool_id": "once"}
    assert crash.fired_twice([call], set()) == 0
    assert crash.fired_twice([call, call], set()) == 1
    assert crash.fired_twice([{**call, "attempts": 2}], set()) == 1
    assert crash.fired_twice([{**call, "attempts": 2}], {"once"}) == 0


def test_artifacts_that_were_stored_twice_are_counted() -> None:
    stored = {"type": "documents.received", "data": {"document": {"title": "a"}}}
    assert crash.written_twice([stored]) == 0
    assert crash.written_twice([stored, stored]) == 1


def test_the_goal_of_the_proof_is_a_goal() -> None:
    from schemas.goals import SubmitGoal

    goal = SubmitGoal.model_validate(crash.plan_of(6, "x"), strict=False)
    assert len(goal.tasks) == 7
