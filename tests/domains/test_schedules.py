"""Schedules over real servers: each time once, with the rights of the moment, whatever was missed."""

import asyncio

import psycopg
import pytest

from bus.service import own_context
from handlers.workflows import service
from handlers.workflows.reactions import schedules as reactions
from schemas.identity import users
from schemas.identity.users import CreateUser, DisableUser
from schemas.principal import Principal
from schemas.problems import IllegalMove, NotFound, OutsideSchema, VersionConflict
from schemas.workflows import definitions, runs, schedules
from schemas.workflows.definitions import DeleteWorkflow
from schemas.workflows.runs import GetWorkflowRun, ListWorkflowRuns, SendSignal
from schemas.workflows.schedules import (
    BadTiming,
    CreateSchedule,
    DeleteSchedule,
    GetSchedule,
    ListFirings,
    ListSchedules,
    NextTimes,
    PauseSchedule,
    PreviewTimes,
    ResumeSchedule,
    ScheduleNameTaken,
    UpdateSchedule,
)
from tests.conftest import eventually
from tests.domains.clock import SetClock
from tests.domains.flows import ended, made, waits

VALUE = {"key": "a", "type": "set", "value": "$.inputs"}
WAIT = {"key": "w", "type": "wait", "signal": "go"}
NOON = "2026-03-28T12:00:00+00:00"
SETTLED = ("started", "skipped", "missed", "refused", "queued")


@pytest.fixture
def clock(monkeypatch):
    return SetClock(monkeypatch, NOON)


@pytest.fixture
def tick(platform):
    """Look at once, in several processes at the same time."""

    async def looked():
        looks = (reactions.tick(own_context(service, platform)) for _ in range(4))
        await asyncio.gather(*looks)

    return looked


async def scheduled(ask, workflow, name="s", **fields):
    command = CreateSchedule(name=name, workflow_id=workflow.id, **fields)
    return await ask(schedules.schedule_create, command)


async def firings(ask, schedule):
    """What became of its times, oldest first, when all is decided."""

    async def check():
        page = await ask(schedules.schedule_firings, ListFirings(id=schedule.id))
        settled = all(firing.status in SETTLED for firing in page.items)
        return (page.items[::-1],) if settled else None

    [found] = await eventually(check)
    return found


def told(found):
    return [(firing.due_at.strftime("%d %H:%M"), firing.status) for firing in found]


async def test_a_time_starts_one_run_however_many_look_and_another_the_next_day(ask, clock, tick):
    workflow = await made(ask, "daily", VALUE)
    schedule = await scheduled(
        ask, workflow, cron="30 2 * * *", zone="Europe/Berlin", inputs={"n": 1}
    )
    clock.set("2026-03-29T00:59:59+00:00")
    await tick()
    assert await firings(ask, schedule) == ()

    for day in ("2026-03-29T01:00:00+00:00", "2026-03-30T00:30:01+00:00"):  # the clock is set
        clock.set(day)
        await tick()
        await tick()
        for firing in await firings(ask, schedule):
            run = await ended(ask, await ask(runs.run, GetWorkflowRun(id=firing.run_id)))
            assert (run.owner_id, run.result) == (schedule.owner_id, {"n": 1})

    found = await firings(ask, schedule)
    assert told(found) == [("29 01:00", "started"), ("30 00:30", "started")]
    begun = (await ask(runs.runs, ListWorkflowRuns(workflow_id=workflow.id))).items
    assert {run.id for run in begun} == {firing.run_id for firing in found}
    shown = await ask(schedules.schedule_times, NextTimes(id=schedule.id, count=2))
    assert [t.isoformat() for t in shown.items] == [
        "2026-03-31T02:30:00+02:00", "2026-04-01T02:30:00+02:00",
    ]  # fmt: skip


async def test_of_the_times_that_were_missed_those_count_that_the_schedule_says(ask, clock, tick):
    workflow = await made(ask, "hourly", VALUE)
    made_so = {
        catch_up: await scheduled(
            ask, workflow, catch_up, cron="0 * * * *", catch_up=catch_up, catch_up_max=3,
            overlap="allow",
        )
        for catch_up in ("none", "one", "all")
    }  # fmt: skip
    clock.set("2026-03-28T18:30:00+00:00")
    await tick()
    found = {name: await firings(ask, schedule) for name, schedule in made_so.items()}
    assert told(found["none"]) == [("28 18:00", "missed")]
    assert told(found["one"]) == [("28 18:00", "started")]
    assert told(found["all"]) == [(f"28 {h}:00", "started") for h in (16, 17, 18)]
    passed = {name: [f.passed_from and f.passed_from.hour for f in f] for name, f in found.items()}
    assert passed == {"none": [13], "one": [13], "all": [13, None, None]}

    clock.set("2026-03-28T19:00:30+00:00")
    await tick()
    assert told(await firings(ask, made_so["none"]))[1:] == [("28 19:00", "started")]


async def test_a_run_that_goes_on_is_waited_for_skipped_or_not_minded(ask, clock, tick):
    workflow = await made(ask, "long", WAIT)
    made_so = {
        overlap: await scheduled(ask, workflow, overlap, cron="0 * * * *", overlap=overlap)
        for overlap in ("allow", "skip", "queue")
    }
    for hour in (13, 14, 15):
        clock.set(f"2026-03-28T{hour}:00:00+00:00")
        await tick()
        for schedule in made_so.values():
            await firings(ask, schedule)
    became = {
        name: [f.status for f in await firings(ask, schedule)] for name, schedule in made_so.items()
    }
    assert became == {
        "allow": ["started"] * 3,
        "skip": ["started", "skipped", "skipped"],
        "queue": ["started", "queued", "skipped"],
    }
    first, waiting, _ = await firings(ask, made_so["queue"])
    await waits(ask, await ask(runs.run, GetWorkflowRun(id=first.run_id)), "w")
    await ask(runs.signal, SendSignal(id=first.run_id, name="go"))

    async def went_on():
        await tick()
        found = (await firings(ask, made_so["queue"]))[1]
        return found if found.status == "started" else None

    assert (await eventually(went_on)).id == waiting.id


async def test_a_run_is_started_with_what_is_left_of_its_owners_rights(ask, clock, tick):
    user = await ask(users.create_user, CreateUser(login="ada", name="ada", roles=("developer",)))
    owner = ask.acting_as(Principal(id=user.id, kind="user", roles=user.roles))
    narrow = ask.acting_as(
        Principal(id=user.id, kind="user", roles=user.roles,
                  scopes=("workflows:create", "workflows:read", "workflows:update")),
    )  # fmt: skip
    workflow = await made(owner, "mine", VALUE)
    free = await scheduled(owner, workflow, "free", cron="0 * * * *")
    bound = await scheduled(narrow, workflow, "bound", cron="0 * * * *")
    clock.set("2026-03-28T13:00:00+00:00")
    await tick()
    assert [f.status for f in await firings(ask, free)] == ["started"]
    [refused] = await firings(ask, bound)
    assert (refused.status, refused.error["code"]) == ("refused", "ERR_300")

    same = {"name": "free", "workflow_id": workflow.id, "cron": "0 * * * *"}
    changed = UpdateSchedule(id=free.id, version=1, **same)
    assert (await ask(schedules.schedule_update, changed)).mandate == free.mandate
    changed = UpdateSchedule(id=free.id, version=2, **same)
    renewed = await narrow(schedules.schedule_update, changed)
    assert renewed.mandate.scopes == narrow.principal.scopes
    await owner(schedules.schedule_update, UpdateSchedule(id=free.id, version=3, **same))
    await ask(users.disable_user, DisableUser(id=user.id))
    clock.set("2026-03-28T14:00:00+00:00")
    await tick()
    assert (await firings(ask, free))[1].error["code"] == "ERR_200"


async def test_clocks_that_were_lost_are_set_again_and_no_time_comes_twice(
    ask, clock, tick, platform, database_url
):
    workflow = await made(ask, "lost", VALUE)
    schedule = await scheduled(ask, workflow, every_s=600, catch_up="all", overlap="allow")
    clock.set("2026-03-28T12:10:00+00:00")
    await tick()
    await firings(ask, schedule)
    with psycopg.connect(database_url) as connection:
        connection.execute("DELETE FROM flow.clocks")
    clock.set("2026-03-28T12:30:00+00:00")
    await tick()
    assert len(await firings(ask, schedule)) == 1

    await reactions.wind_up(own_context(service, platform))
    await ask(definitions.delete, DeleteWorkflow(id=workflow.id))
    await tick()

    async def all_three():  # the platform's own look may be at it, and ours passes it by
        found = await firings(ask, schedule)
        return found if len(found) >= 3 else None

    found = await eventually(all_three)
    assert told(found) == [
        ("28 12:10", "started"),
        ("28 12:20", "refused"),
        ("28 12:30", "refused"),
    ]
    assert {firing.error["code"] for firing in found[1:]} == {"ERR_001"}
    with psycopg.connect(database_url) as connection:  # as after a restored copy
        connection.execute("UPDATE flow.clocks SET next_at = '2026-03-28T12:10:00Z'")
    await tick()
    assert await firings(ask, schedule) == found


async def test_a_paused_schedule_starts_nothing_and_goes_on_with_the_next_time(ask, clock, tick):
    workflow = await made(ask, "pauses", WAIT)
    schedule = await scheduled(ask, workflow, cron="0 * * * *", overlap="queue")
    for hour in (13, 14):
        clock.set(f"2026-03-28T{hour}:00:00+00:00")
        await tick()
        await firings(ask, schedule)
    paused = await ask(schedules.schedule_pause, PauseSchedule(id=schedule.id))
    assert [f.status for f in await firings(ask, schedule)] == ["started", "skipped"]
    with pytest.raises(IllegalMove):
        await ask(schedules.schedule_pause, PauseSchedule(id=schedule.id))
    same = {"name": "s", "workflow_id": workflow.id, "cron": "30 * * * *", "overlap": "allow"}
    update = UpdateSchedule(id=schedule.id, version=paused.version, **same)
    updated = await ask(schedules.schedule_update, update)
    with pytest.raises(VersionConflict):
        await ask(schedules.schedule_update, update)
    clock.set("2026-03-28T16:00:00+00:00")
    await tick()
    resumed = await ask(schedules.schedule_resume, ResumeSchedule(id=schedule.id))
    assert (resumed.status, resumed.version) == ("active", updated.version + 1)
    clock.set("2026-03-28T16:30:00+00:00")
    await tick()
    assert told(await firings(ask, schedule))[2:] == [("28 16:30", "started")]

    await ask(schedules.schedule_delete, DeleteSchedule(id=schedule.id))
    clock.set("2026-03-28T18:00:00+00:00")
    await tick()
    assert len(await firings(ask, schedule)) == 3
    assert (await ask(schedules.schedule_list, ListSchedules())).items == ()
    assert (await ask(schedules.schedule_get, GetSchedule(id=schedule.id))).status == "deleted"
    with pytest.raises(NotFound):
        await ask(schedules.schedule_resume, ResumeSchedule(id=schedule.id))


async def test_a_schedule_that_could_never_start_anything_is_refused(ask, ask_as, clock, platform):
    schema = {"type": "object", "required": ["n"]}
    workflow = await made(ask, "typed", VALUE, inputs=schema)
    good = await scheduled(ask, workflow, cron="0 9 * * *", inputs={"n": 1})
    for wrong, problem in (
        ({"cron": "0 9 * * *", "inputs": {}}, OutsideSchema),
        ({"cron": "0 9 * *", "inputs": {"n": 1}}, BadTiming),
        ({"cron": "0 9 * * *", "zone": "Mars/Olympus", "inputs": {"n": 1}}, BadTiming),
        ({"cron": "0 9 * * *", "inputs": {"n": 1}}, ScheduleNameTaken),
    ):
        with pytest.raises(problem):
            await scheduled(ask, workflow, **wrong)
    await ask(definitions.delete, DeleteWorkflow(id=workflow.id))
    with pytest.raises(NotFound):
        await scheduled(ask, workflow, "late", cron="0 9 * * *", inputs={"n": 1})
    with pytest.raises(NotFound):
        await ask_as("developer", "eve")(schedules.schedule_pause, PauseSchedule(id=good.id))
    preview = PreviewTimes(cron="0 9 * * MON", zone="America/New_York", count=2)
    shown = await ask_as("viewer")(schedules.schedule_preview, preview)
    assert [t.isoformat() for t in shown.items] == [
        "2026-03-30T09:00:00-04:00", "2026-04-06T09:00:00-04:00",
    ]  # fmt: skip
