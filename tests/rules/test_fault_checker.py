"""The checker of the fault proof: it passes what was right, and finds each wrong that is planted."""

import math
import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.faults import history
from deploy.faults.checker import RULES, Final, Logged, Ran, violations
from deploy.faults.history import Line, Operation, Recorder
from deploy.faults.linear import OPERATIONS_MAX, TooLong, linearizable

THINGS = ("one", "two", "three")
CLIENTS = ("ann", "bob", "cyd")


class Store:
    """What a right platform does, to write histories that are right by their making.

    Each call acts at one moment between its beginning and its end; the draw decides which calls
    overlap, which answers are lost, and whether what nobody heard of was done.
    """

    def __init__(self, draw: random.Random):
        self.draw, self.at = draw, 0.0
        self.things: dict[str, tuple[int, str]] = {}
        self.called: list[Operation] = []
        self.log: list[Logged] = []
        self.effects: Counter[str] = Counter()
        self.runs: list[Ran] = []
        self.numbers: Counter[str] = Counter()
        self.free_at = dict.fromkeys(CLIENTS, 0.0)

    def go_on(self, count: int) -> None:
        for _ in range(count):
            self.at += 1
            client = self.draw.choice(CLIENTS)
            if self.free_at[client] < self.at:
                self.call(client)

    def call(self, client: str) -> None:
        self.numbers[client] += 1
        number = self.numbers[client]
        began = max(self.free_at[client], self.at - self.draw.uniform(0, 3))
        ended = self.at + self.draw.uniform(0.01, 3)
        self.free_at[client] = ended
        verb = self.draw.choice(("create", "write", "write", "read", "read", "start"))
        value = f"{client}-{number}"
        operation = Operation(client, number, verb, "", value, 0, began, ended, "ok")
        made = getattr(self, verb)(operation)
        if made is not None:
            lost = made.outcome == "ok" and verb != "start" and self.draw.random() < 0.1
            self.called.append(
                replace(made, outcome="unknown", ended=math.inf, seen=0) if lost else made
            )

    def create(self, operation):
        free = [thing for thing in THINGS if thing not in self.things]
        if not free:
            return None
        return self.made(replace(operation, thing=free[0]), 1)

    def write(self, operation):
        if not self.things:
            return None
        thing = self.draw.choice(sorted(self.things))
        version = self.things[thing][0]
        if self.draw.random() < 0.2:
            return replace(operation, thing=thing, expected=version + 7, outcome="fail")
        return self.made(replace(operation, thing=thing, expected=version), version + 1)

    def made(self, operation, version):
        self.things[operation.thing] = (version, operation.value)
        event = f"e-{len(self.log)}"
        self.log.append(Logged(event, operation.thing, version, operation.value, f"h-{event}"))
        return replace(operation, seen=version)

    def read(self, operation):
        if not self.things:
            return None
        thing = self.draw.choice(sorted(self.things))
        version, value = self.things[thing]
        return replace(operation, thing=thing, value=value, seen=version)

    def start(self, operation):
        run = f"run-{operation.value}"
        self.effects.update({f"{operation.value}/a": 1, f"{operation.value}/b": 1})
        self.runs.append(Ran(run, "succeeded", {"a": 1, "b": 1}))
        return replace(operation, thing=run)

    def final(self) -> Final:
        hashes = {one.id: one.hash for one in self.log}
        return Final(
            log=self.log, log_ids=set(hashes), effects=self.effects, runs=self.runs,
            published=[(one.id, one.thing, one.version) for one in self.log],
            wanted=list(self.effects), hashes=hashes, converged_s=3.0,
            before=dict(list(hashes.items())[: len(hashes) // 2]),
        )  # fmt: skip


def right(draw: random.Random, count: int = 60) -> tuple[list[Operation], Final]:
    """A history and the stores of a platform that did everything as it must."""
    store = Store(draw)
    store.go_on(count)
    return store.called, store.final()


@given(st.integers(0, 2**32))
@settings(deadline=None)
def test_what_a_right_platform_did_breaks_no_rule(seed):
    called, final = right(random.Random(seed))
    assert violations(called, final) == []


def first(called, verb, outcome="ok"):
    return next(o for o in called if (o.verb, o.outcome) == (verb, outcome))


def loses_an_event(called, final):
    """An acknowledged write is not in the log."""
    value = first(called, "write").value
    return called, replace(final, log=[one for one in final.log if one.value != value])


def loses_an_effect(called, final):
    """A step said to be done had no effect."""
    return called, replace(final, effects={**final.effects, final.wanted[0]: 0})


def publishes_nothing(called, final):
    """The outbox forgot a row before it was published."""
    return called, replace(final, published=final.published[1:])


def leaves_an_event_behind(called, final):
    """A consumer never dealt with an event."""
    return called, replace(final, missing=["goals-follow-step e-1"])


def loses_a_run(called, final):
    """A run that was answered is not there."""
    return called, replace(final, runs=final.runs[1:])


def writes_twice(called, final):
    """One command made two events."""
    last = final.log[-1]
    again = replace(last, id="again", version=last.version + 1)
    return called, replace(final, log=[*final.log, again])


def has_an_effect_twice(called, final):
    """A step was done again after it was done."""
    return called, replace(final, effects={**final.effects, final.wanted[0]: 2})


def records_a_step_twice(called, final):
    """A step that is done was recorded as done once more."""
    return called, replace(final, runs=[replace(final.runs[0], steps={"a": 2}), *final.runs[1:]])


def publishes_twice(called, final):
    """One event is twice in the stream."""
    return called, replace(final, published=[*final.published, final.published[-1]])


def writes_what_nobody_asked(called, final):
    """An event without a command."""
    ghost = Logged("ghost", "ghost", 1, "nobody", "h")
    return called, replace(final, log=[*final.log, ghost])


def does_what_it_refused(called, final):
    """A write was answered with a conflict and done all the same."""
    refused = first(called, "write", "fail")
    done = Logged("done", "refused", 1, refused.value, "h")
    return called, replace(final, log=[*final.log, done])


def publishes_before_it_commits(called, final):
    """A message of an event that was rolled back."""
    return called, replace(final, published=[*final.published, ("rolled-back", "one", 99)])


def skips_a_version(called, final):
    """A version is missing between two others."""
    log = [replace(o, version=o.version + (o.version > 1)) for o in final.log]
    return called, replace(final, log=log)


def publishes_out_of_order(called, final):
    """A later version went out before an earlier one."""
    return called, replace(final, published=final.published[::-1])


def answers_an_old_read(called, final):
    """A read that began after a write was answered does not see it."""
    written = first(called, "write")
    old = Operation(
        "new", 1, "read", written.thing, "", 0, written.ended + 1, written.ended + 2, "ok", 1
    )
    before = next(o.value for o in final.log if (o.thing, o.version) == (written.thing, 1))
    return [*called, replace(old, value=before)], final


def reads_backwards(called, final):
    """A client sees version 2 and then version 1, so that they are before each other."""
    two = next(o for o in final.log if o.version == 2)
    one = next(o for o in final.log if (o.thing, o.version) == (two.thing, 1))
    sees = [
        Operation("new", n, "read", log.thing, log.value, 0, 1e6 + n, 1e6 + n + 0.5, "ok", log.version)
        for n, log in enumerate((two, one), 1)
    ]  # fmt: skip
    return [*called, *sees], final


def changes_the_past(called, final):
    """An event of before the fault has another hash."""
    return called, replace(final, hashes={**final.hashes, "e-0": "other"})


def differs_when_replayed(called, final):
    """The tables are not what the log says."""
    return called, replace(final, replayed=["agents: different one"])


def leaves_a_run_open(called, final):
    """A run neither ends nor waits for anything."""
    return called, replace(final, runs=[replace(final.runs[0], status="running"), *final.runs[1:]])


def does_not_come_to_rest(called, final):
    """It takes longer than a minute."""
    return called, replace(final, converged_s=61.0)


def gives_up_a_message(called, final):
    """Something became a dead letter that was no poison."""
    return called, replace(final, letters=["goals-follow-step: TimeoutError"])


PLANTED = {
    loses_an_event: "lost", loses_an_effect: "lost", publishes_nothing: "lost",
    leaves_an_event_behind: "lost", loses_a_run: "lost", writes_twice: "doubled",
    has_an_effect_twice: "doubled", records_a_step_twice: "doubled", publishes_twice: "doubled",
    writes_what_nobody_asked: "ghosts", does_what_it_refused: "ghosts",
    publishes_before_it_commits: "ghosts", skips_a_version: "gaps",
    publishes_out_of_order: "gaps", answers_an_old_read: "unordered",
    reads_backwards: "circular", changes_the_past: "changed", differs_when_replayed: "changed",
    leaves_a_run_open: "open runs", does_not_come_to_rest: "not converged",
    gives_up_a_message: "not converged",
}  # fmt: skip


@pytest.mark.parametrize(
    ("plant", "rule"), PLANTED.items(), ids=lambda p: getattr(p, "__name__", p)
)
def test_a_planted_violation_is_found_by_its_rule(plant, rule):
    called, final = plant(*right(random.Random(7)))
    assert rule in {violation.rule for violation in violations(called, final)}


def test_every_rule_finds_something():
    backwards = {v.rule for v in violations(*reads_backwards(*right(random.Random(7))))}
    assert set(PLANTED.values()) | backwards == set(RULES)


def write(number, began, ended, outcome="ok", expected=1):
    return Operation(
        "ann", number, "write", "one", f"v{number}", expected, began, ended, outcome, expected + 1
    )


MADE = Operation("ann", 1, "create", "one", "v1", 0, 0, 1, "ok", 1)


def read(value, version, began=10.0, ended=11.0):
    return Operation("bob", 9, "read", "one", value, 0, began, ended, "ok", version)


def test_what_nobody_knows_may_have_been_done_or_not():
    unknown = write(2, 2, math.inf, "unknown")
    assert linearizable([MADE, unknown, read("v1", 1)])
    assert linearizable([MADE, unknown, read("v2", 2)])
    assert linearizable([MADE, unknown, read("v1", 1), read("v2", 2, 12, 13)])
    assert not linearizable([MADE, unknown, read("v2", 2), read("v1", 1, 12, 13)])


def test_two_writes_at_the_same_version_are_not_both_done():
    assert linearizable([MADE, write(2, 2, 3), write(3, 2, 4, "fail")])
    assert not linearizable([MADE, write(2, 2, 3), write(3, 2, 4)])


def test_a_refusal_must_have_had_a_reason():
    assert not linearizable([MADE, write(2, 2, 3, "fail")])


def test_more_than_can_be_searched_is_said():
    many = [read("v1", 1)] * (OPERATIONS_MAX + 1)
    with pytest.raises(TooLong):
        linearizable([MADE, *many])


def test_a_history_is_read_back_as_it_was_written(tmp_path):
    recorder = Recorder(tmp_path / "history")
    for line in (
        Line(1.0, "ann", 1, "invoke", "create", value="v1"),
        Line(1.5, "bob", 1, "invoke", "read", "one"),
        Line(2.0, "ann", 1, "ok", "create", "one", "v1", 1),
    ):
        recorder.write(line)
    recorder.close()
    made, unheard = history.operations(history.read(tmp_path / "history"))
    assert made == Operation("ann", 1, "create", "one", "v1", 0, 1.0, 2.0, "ok", 1)
    assert (unheard.outcome, unheard.ended) == ("unknown", math.inf)
