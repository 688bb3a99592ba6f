"""The real relay, inbox, boundary and workers in thousands of bad worlds, and planted bugs."""

import os
import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bus import faults
from deploy.faults.proof import code
from tests.simulator.planted import HARDER, PLANTED
from tests.simulator.world import BLOWS, CHANCES, STORM_S, Bugs, World

SCHEDULES = int(os.environ.get("PORTAL_SCHEDULES", "2500")) // 20
BATCHES = 2
EXAMPLES = max(10, SCHEDULES // 100)
SEEDS_UNTIL_CAUGHT = 150
POINTS = {"before-commit", "after-commit-before-reply", "after-publish-before-delete",
          "after-effect-before-ack"}  # fmt: skip


def lived(seed: int, bugs: Bugs | None = None) -> World:
    """The world of this seed, after its end."""
    world = World(random.Random(seed), replace(bugs) if bugs else Bugs())
    found = world.run()
    assert not found, f"seed {seed}, commit {code()}: {found[:3]}"
    return world


@pytest.mark.parametrize("batch", range(BATCHES))
def test_nothing_is_lost_doubled_or_made_up_whatever_happens(batch: int) -> None:
    for seed in range(batch, SCHEDULES, BATCHES):
        lived(seed)


@given(
    seed=st.integers(0, 2**32),
    chances=st.fixed_dictionaries({name: st.floats(0, 4 * most) for name, most in CHANCES.items()}),
    blows=st.lists(st.tuples(st.floats(0, STORM_S), st.sampled_from(BLOWS)), max_size=6),
)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_mixture_of_faults_breaks_a_rule(seed: int, chances: Any, blows: Any) -> None:
    assert World(random.Random(seed), chances=chances, blows=blows).run() == []


def test_everything_that_can_happen_does() -> None:
    """A simulator in which something never goes wrong proves nothing about it."""
    happened = sum((lived(seed).happened for seed in range(30)), Counter())
    assert set(happened) == {*CHANCES, *BLOWS, *POINTS}
    assert set(faults.POINTS) >= POINTS


def test_a_seed_is_the_same_world_again() -> None:
    first, second = lived(5), lived(5)
    assert first.lines == second.lines
    assert first.happened == second.happened


def test_a_violation_says_its_seed_and_its_commit() -> None:
    with pytest.raises(AssertionError, match=r"seed 1, commit \w+"):
        lived(1, PLANTED["no inbox"])


@pytest.mark.parametrize("bug", PLANTED, ids=str)
def test_a_planted_bug_is_caught(bug: str) -> None:
    for seed in range(SEEDS_UNTIL_CAUGHT):
        if World(random.Random(seed), PLANTED[bug], chances=dict(HARDER.get(bug, {}))).run():
            return
    pytest.fail(f"{bug} was not caught in {SEEDS_UNTIL_CAUGHT} schedules")
