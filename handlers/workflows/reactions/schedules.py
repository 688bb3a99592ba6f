"""How schedules fire: each time once, however many processes look.

Each process looks every half second. Whoever finds a time that has come holds the schedule's clock,
records what becomes of the time under an id that follows from both, queues the start of its run,
and sets the clock on: all in one transaction, so that a process that dies has done it all or
nothing. The run is started as the owner would: `workflows.start`, under the time's own key.
"""

from datetime import datetime, timedelta
from typing import Any

from bus import telemetry
from bus.context import Context
from bus.database import Transaction
from handlers.workflows import service, store, timetable
from handlers.workflows.steps import WORKFLOWS
from handlers.workflows.timetable import A_SECOND, Due
from schemas.contract import Problem
from schemas.identity import principals
from schemas.identity.principals import ActFor
from schemas.workflows import runs
from schemas.workflows.runs import PRIORITY, StartWorkflow, WorkflowRun
from schemas.workflows.schedules import (
    BadTiming,
    Fire,
    FiringDue,
    FiringPassed,
    FiringQueued,
    FiringStarted,
    FiringStatus,
    ScheduleFiring,
    WorkflowSchedule,
)

LOOK_EVERY_S = 0.5
FIRED_AT_ONCE_MAX = 500
LOOK_AT_BAD_ZONE = timedelta(hours=1)


@service.starts
async def wind_up(ctx: Context) -> None:
    """Set the clocks of schedules that have none: those are not in the log."""
    for row in await ctx.database.rows(store.STOPPED_CLOCKS):
        fields = dict(row)
        last_at = fields.pop("last_at")
        schedule = WorkflowSchedule.model_validate(fields)
        known_until = max(schedule.updated_at, last_at or schedule.updated_at)
        await ctx.database.execute(store.SET_CLOCK, schedule.id, known_until + A_SECOND)


@service.every(seconds=LOOK_EVERY_S)
async def tick(ctx: Context) -> None:
    """Let what is due fire, and what has waited for the run before."""
    if await ctx.database.row(store.ANY_CLOCK, ctx.now()) is not None:
        for _ in range(FIRED_AT_ONCE_MAX):
            if not await fire_next(ctx):
                break
    for row in await ctx.database.rows(store.FREE_AGAIN, FIRED_AT_ONCE_MAX):
        await let_go(str(row["schedule_id"]), ctx)


async def fire_next(ctx: Context) -> bool:
    """Record what becomes of the times of one schedule, and set its clock on."""
    at = ctx.now()
    async with ctx.transaction() as tx:
        clock = await tx.row(store.TAKE_CLOCK, at)
        if clock is None:
            return False
        row = await tx.row(store.SCHEDULE, clock["schedule_id"])
        schedule = WorkflowSchedule.model_validate(dict(row or {}))
        try:
            due = timetable.due(schedule, clock["next_at"], at)
        except BadTiming as bad:
            telemetry.log().error("schedule has no times", schedule=schedule.id, why=bad.message)
            await tx.execute(store.SET_CLOCK, schedule.id, at + LOOK_AT_BAD_ZONE)
            return True
        await record(tx, schedule, due, at)
        await tx.execute(store.SET_CLOCK, schedule.id, due.next_at)
    return True


async def record(tx: Transaction, schedule: WorkflowSchedule, due: Due, at: datetime) -> None:
    """Record each time that has come, unless it was before the clocks were lost."""
    ids = {time: timetable.firing_id(schedule.id, time) for time in due.times}
    known = {str(row["id"]) for row in await tx.rows(store.KNOWN_FIRINGS, list(ids.values()))}
    for time in (time for time in due.times if ids[time] not in known):
        firing = ScheduleFiring(
            id=ids[time], version=1, schedule_id=schedule.id, owner_id=schedule.owner_id,
            workflow_id=schedule.workflow_id, inputs=schedule.inputs, due_at=time,
            status="missed" if due.missed else await becomes(tx, schedule),
            passed_from=due.passed_from if time == due.times[0] else None,
            run_id=None, error=None, decided_at=at,
        )  # fmt: skip
        await announce(tx, firing)


async def becomes(tx: Transaction, schedule: WorkflowSchedule) -> FiringStatus:
    """What becomes of a time that counts, by what the schedule is doing already."""
    found = await tx.row(store.BUSY, schedule.id)
    assert found is not None
    return timetable.becomes(schedule.overlap, busy=found["busy"], queued=found["queued"])


async def announce(tx: Transaction, firing: ScheduleFiring) -> None:
    """Record a firing; one that is due is queued to be started."""
    if firing.status == "due":
        await tx.record(FiringDue(firing=firing))
        await tx.enqueue(Fire(firing_id=firing.id))
    elif firing.status == "queued":
        await tx.record(FiringQueued(firing=firing))
    else:
        await tx.record(FiringPassed(firing=firing))


async def let_go(schedule_id: str, ctx: Context) -> None:
    """What has waited for the run before is due now, unless somebody else was faster."""
    async with ctx.transaction() as tx:
        await tx.row(store.HOLD_CLOCK, schedule_id)
        row = await tx.row(store.QUEUED, schedule_id)
        found = await tx.row(store.BUSY, schedule_id)
        if row is None or found is None or found["busy"]:
            return
        await announce(tx, moved(ScheduleFiring.model_validate(dict(row)), "due", ctx.now()))


def moved(
    firing: ScheduleFiring, status: FiringStatus, at: datetime, **more: Any
) -> ScheduleFiring:
    """The next version of a firing."""
    changes = {"version": firing.version + 1, "status": status, "decided_at": at}
    return firing.model_copy(update=changes | more)


async def refused(job: Fire, ctx: Context, problem: Problem) -> None:
    """There will be no run: say why."""
    async with ctx.transaction() as tx:
        row = await tx.row(store.FIRING, job.firing_id)
        firing = ScheduleFiring.model_validate(dict(row or {}))
        if firing.status == "due":
            over = moved(firing, "refused", ctx.now(), error=problem.kept())
            await tx.record(FiringPassed(firing=over))


@service.works(Fire, gave_up=refused)
async def fire(job: Fire, ctx: Context) -> None:
    """Start the run, and record that it was."""
    firing = ScheduleFiring.model_validate(await ctx.row(store.FIRING, job.firing_id))
    if firing.status != "due":
        return
    ctx.part_of(firing.schedule_id)
    try:
        run = await start(firing, ctx)
    except Problem as problem:
        if problem.retryable:
            raise
        await refused(job, ctx, problem)
        return
    async with ctx.transaction() as tx:
        started = moved(firing, "started", ctx.now(), run_id=run.id)
        await tx.record(FiringStarted(firing=started))


async def start(firing: ScheduleFiring, ctx: Context) -> WorkflowRun:
    """Start the run with what is left of the owner's rights now.

    Raises:
        Problem: The owner may not, or the workflow cannot be started.
    """
    row = await ctx.row(store.SCHEDULE, firing.schedule_id)
    schedule = WorkflowSchedule.model_validate(row)
    question = ActFor(owner_id=schedule.owner_id, mandate=schedule.mandate)
    owner = await ctx.as_principal(WORKFLOWS).call(principals.act_for, question)
    command = StartWorkflow(
        id=firing.workflow_id, inputs=firing.inputs, priority=schedule.priority or PRIORITY
    )
    return await ctx.as_principal(owner).call(runs.start, command, key=firing.key)
