"""Whose turn it is: nobody starves, equals share, the urgent come first, waiting counts."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.workflows.fairness import STEP, Standing, Waiting, chosen, first_of, raised

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROUND = timedelta(seconds=10)
ROUNDS_MAX = 400
LONGEST = 3
OWNERS = ("ada", "bob", "cleo", "dan")


def waits(owner, number=0, priority=3, seconds=0):
    return Waiting(f"{owner}-{number:04}", owner, priority, NOW - timedelta(seconds=seconds))


MOMENTS = st.integers(0, 900).map(lambda s: NOW - timedelta(seconds=s))
WAITING = st.lists(
    st.builds(Waiting, st.uuids().map(str), st.sampled_from(OWNERS), st.integers(1, 5), MOMENTS),
    max_size=40,
)
STANDINGS = st.dictionaries(
    st.sampled_from(OWNERS), st.builds(Standing, st.integers(0, 3), st.none() | MOMENTS)
)


class Hall:
    """So many places, taken by the rule; owners who always have something waiting."""

    def __init__(self, room, draw):
        self.at, self.room, self.draw = NOW, room, draw
        self.waiting, self.driven, self.turns = [], [], {}
        self.had = list[Waiting]()

    def comes(self, owner, priority):
        number = len(self.had) + len(self.waiting)
        self.waiting.append(Waiting(f"{owner}-{number:06}", owner, priority, self.at))

    def standings(self):
        in_hand = Counter(owner for owner, _ in self.driven)
        return {o: Standing(in_hand[o], self.turns.get(o)) for o in {*in_hand, *self.turns}}

    def turn(self):
        """What ends, ends; who has a turn, takes a place."""
        self.at += ROUND
        self.driven = [(owner, left - 1) for owner, left in self.driven if left > 1]
        free = self.room - len(self.driven)
        for one in chosen(self.waiting, self.standings(), free, self.at):
            self.waiting.remove(one)
            self.driven.append((one.owner_id, self.draw(st.integers(1, LONGEST))))
            self.turns[one.owner_id] = self.at
            self.had.append(one)


@given(WAITING, STANDINGS, st.integers(0, 50))
def test_as_many_have_a_turn_as_there_is_room_and_each_once(waiting, standings, room):
    turns = chosen(waiting, standings, room, NOW)
    assert len(turns) == min(room, len(waiting))
    assert len({one.run_id for one in turns}) == len(turns)


@given(WAITING, STANDINGS, st.integers(0, 8))
def test_the_oldest_of_each_owner_and_priority_are_all_that_need_be_known(waiting, standings, room):
    def oldest(one):
        return one.since, one.run_id

    kinds = {(one.owner_id, one.priority) for one in waiting}
    known = [
        one
        for kind in kinds
        for one in sorted((w for w in waiting if (w.owner_id, w.priority) == kind), key=oldest)[
            :room
        ]
    ]
    assert chosen(known, standings, room, NOW) == chosen(waiting, standings, room, NOW)


@given(st.data(), st.integers(1, 4), st.integers(1, 4))
def test_a_run_of_the_last_priority_has_its_turn_however_many_urgent_ones_come(data, room, floods):
    hall = Hall(room, data.draw)
    hall.comes("last", 5)
    for _ in range(ROUNDS_MAX):
        for owner in OWNERS[:floods]:
            for _ in range(room):
                hall.comes(owner, 1)
        hall.turn()
        if "last" in hall.turns:
            break
    assert hall.turns["last"] <= NOW + 4 * STEP + LONGEST * ROUND


@given(st.data())
def test_an_owners_own_urgent_runs_do_not_keep_his_others_waiting_for_ever(data):
    hall = Hall(1, data.draw)
    hall.comes("ada", 5)
    while all(one.priority == 1 for one in hall.had):
        hall.comes("ada", 1)
        hall.turn()
        assert hall.at <= NOW + 8 * STEP * LONGEST


@given(st.integers(1, 12), st.sets(st.sampled_from(OWNERS), min_size=1), st.integers(1, 5))
def test_equals_who_all_wait_get_shares_that_differ_by_one_at_most(room, owners, priority):
    waiting = [
        waits(owner, number, priority, seconds=i)
        for i, owner in enumerate(sorted(owners))
        for number in range(room)
    ]
    shares = Counter(one.owner_id for one in chosen(waiting, {}, room, NOW))
    assert max(shares.values()) - min(shares[o] for o in owners) <= 1


@given(st.data(), st.integers(2, 4), st.integers(1, 30))
def test_equals_have_as_many_turns_where_there_is_one_place_and_every_run_is_short(
    data, owners, rounds
):
    hall, some = Hall(1, lambda _: 1), OWNERS[:owners]
    for owner in data.draw(st.permutations(some)):
        for _ in range(rounds):
            hall.comes(owner, 3)
    for _ in range(rounds):
        hall.turn()
        turns = Counter(one.owner_id for one in hall.had)
        assert max(turns.values()) - min(turns[o] for o in some) <= 1


@given(st.data(), st.integers(1, 6))
def test_no_turn_goes_to_an_owner_who_has_more_in_hand_than_an_equal_who_waits(data, room):
    hall = Hall(room, data.draw)
    for _ in range(20):
        for owner in OWNERS:
            for _ in range(room - sum(w.owner_id == owner for w in hall.waiting)):
                hall.comes(owner, 3)
        hall.turn()
        in_hand = Counter(owner for owner, _ in hall.driven)
        newest = [o for o, at in hall.turns.items() if at == hall.at]
        fewest = min(in_hand[o] for o in OWNERS)
        assert all(in_hand[o] - 1 <= fewest for o in newest), in_hand


@given(st.permutations(range(1, 6)))
def test_the_more_urgent_come_first(priorities):
    own = [waits("ada", n, priority) for n, priority in enumerate(priorities)]
    others = [waits(f"owner-{n}", n, priority) for n, priority in enumerate(priorities)]
    for waiting in (own, others):
        assert [one.priority for one in chosen(waiting, {}, 5, NOW)] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("priority", "waited", "then"),
    [(3, 0 * STEP, 3), (3, STEP, 2), (5, 3 * STEP, 2), (5, 4 * STEP, 1), (2, 99 * STEP, 1)],
)
def test_waiting_raises_a_priority_a_step_a_minute_up_to_the_first(priority, waited, then):
    assert raised(priority, NOW - waited, NOW) == then
    assert raised(priority, NOW - waited + timedelta(seconds=1), NOW) >= then


def test_an_owners_old_run_comes_before_his_newer_urgent_one_once_it_has_waited_long_enough():
    old, new = waits("ada", 1, 4, seconds=181), waits("ada", 2, 1)
    assert first_of([old, new], NOW) == old
    assert first_of([waits("ada", 1, 4, seconds=179), new], NOW) == new


@pytest.mark.parametrize("in_hand", [0, 5])
def test_what_one_owner_has_left_lying_is_not_more_urgent_than_the_first_run_of_another(in_hand):
    flood = [waits("flood", n, 3, seconds=3_600) for n in range(1_000)]
    had = {"flood": Standing(in_hand, NOW - timedelta(seconds=1))}
    assert [o.owner_id for o in chosen([*flood, waits("eve")], had, 2, NOW)] == ["eve", "flood"]
