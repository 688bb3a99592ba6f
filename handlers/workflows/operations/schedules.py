"""What is said to schedules, and when they are due."""

from datetime import datetime

from bus import json_schemas
from bus.context import Context
from bus.database import Transaction
from handlers.workflows import service, store, timetable
from handlers.workflows.operations.definitions import load
from schemas.contract import Page
from schemas.principal import Mandate
from schemas.problems import IllegalMove, NotFound, VersionConflict
from schemas.workflows import schedules
from schemas.workflows.schedules import (
    CreateSchedule,
    DeleteSchedule,
    FiringPassed,
    GetSchedule,
    ListFirings,
    ListSchedules,
    NextTimes,
    PauseSchedule,
    PreviewTimes,
    ResumeSchedule,
    ScheduleChanged,
    ScheduleCreated,
    Scheduled,
    ScheduleDeleted,
    ScheduleFiring,
    ScheduleStatus,
    Times,
    Timing,
    UpdateSchedule,
    WorkflowSchedule,
)

BY_TIME = {"due_at": datetime, "id": str}


async def load_schedule(schedule_id: str, ctx: Context) -> WorkflowSchedule:
    """The schedule, if the caller may know of it."""
    schedule = WorkflowSchedule.model_validate(await ctx.row(store.SCHEDULE, schedule_id))
    ctx.require_owner(schedule.owner_id, schedule.id, schedule.workflow_id)
    return schedule


async def lock_schedule(
    tx: Transaction, schedule_id: str, ctx: Context, *allowed: ScheduleStatus
) -> WorkflowSchedule:
    """The schedule, held until the transaction ends.

    Raises:
        NotFound: It is not there, or not the caller's.
        IllegalMove: It is in no state for this.
    """
    row = await tx.row(store.LOCK_SCHEDULE, schedule_id)
    if row is None or row["status"] == "deleted":
        raise NotFound(id=schedule_id)
    schedule = WorkflowSchedule.model_validate(dict(row))
    ctx.require_owner(schedule.owner_id, schedule.id, schedule.workflow_id)
    ctx.part_of(schedule.id)
    if allowed and schedule.status not in allowed:
        raise IllegalMove(status=schedule.status)
    return schedule


async def require_startable(command: Scheduled, ctx: Context) -> None:
    """Refuse a schedule whose runs could never begin.

    Raises:
        NotFound: The workflow is not there.
        OutsideSchema: The inputs do not fit it.
    """
    workflow = await load(command.workflow_id, ctx)
    if workflow.status == "deleted":
        raise NotFound(id=workflow.id)
    json_schemas.require_fit(workflow.document.get("inputs", {}), command.inputs, "/inputs")


@service.handles(schedules.schedule_create)
async def create(command: CreateSchedule, ctx: Context) -> WorkflowSchedule:
    """Keep it, and set its clock to the first time from now."""
    at = ctx.now()
    first = timetable.first_time(command, at, at)
    await require_startable(command, ctx)
    schedule = WorkflowSchedule(
        id=ctx.new_id(), version=1, owner_id=ctx.principal.id, status="active", counted_from=at,
        created_at=at, updated_at=at, mandate=Mandate.of(ctx.principal), **command.model_dump(),
    )  # fmt: skip
    async with ctx.transaction() as tx:
        await tx.record(ScheduleCreated(schedule=schedule))
        await tx.execute(store.SET_CLOCK, schedule.id, first)
    return schedule


@service.handles(schedules.schedule_update)
async def update(command: UpdateSchedule, ctx: Context) -> WorkflowSchedule:
    """Its clock is set anew; who owns it also renews the rights, nobody else changes them."""
    at, before = ctx.now(), await load_schedule(command.id, ctx)
    if before.status == "deleted":
        raise NotFound(id=before.id)
    if before.version != command.version:
        raise VersionConflict(version=before.version)
    first = timetable.first_time(command, at, at)
    await require_startable(command, ctx)
    own = before.owner_id == ctx.principal.id
    changes = command.model_dump() | {
        "version": before.version + 1, "updated_at": at, "counted_from": at,
        "mandate": Mandate.of(ctx.principal) if own else before.mandate,
    }  # fmt: skip
    schedule = before.model_copy(update=changes)
    async with ctx.transaction() as tx:
        await tx.record(ScheduleChanged(schedule=schedule))
        if schedule.status == "active":
            await tx.execute(store.SET_CLOCK, schedule.id, first)
    return schedule


@service.handles(schedules.schedule_get)
async def get(command: GetSchedule, ctx: Context) -> WorkflowSchedule:
    """One row."""
    return await load_schedule(command.id, ctx)


@service.handles(schedules.schedule_list)
async def listing(command: ListSchedules, ctx: Context) -> Page[WorkflowSchedule]:
    """A page of rows."""
    chosen = (command.workflow_id, command.status)
    return await ctx.page(command, WorkflowSchedule, store.SCHEDULES, *ctx.visible, *chosen)


@service.handles(schedules.schedule_pause)
async def pause(command: PauseSchedule, ctx: Context) -> WorkflowSchedule:
    """Stop its clock; what waits for the run before is given up."""
    async with ctx.transaction() as tx:
        schedule = moved(await lock_schedule(tx, command.id, ctx, "active"), "paused", ctx.now())
        await tx.record(ScheduleChanged(schedule=schedule))
        await stop(tx, schedule, ctx.now())
    return schedule


@service.handles(schedules.schedule_resume)
async def resume(command: ResumeSchedule, ctx: Context) -> WorkflowSchedule:
    """Set its clock to the next time from now."""
    at = ctx.now()
    async with ctx.transaction() as tx:
        schedule = moved(await lock_schedule(tx, command.id, ctx, "paused"), "active", at)
        first = timetable.first_time(schedule.timing, at, schedule.counted_from)
        await tx.record(ScheduleChanged(schedule=schedule))
        await tx.execute(store.SET_CLOCK, schedule.id, first)
    return schedule


@service.handles(schedules.schedule_delete)
async def delete(command: DeleteSchedule, ctx: Context) -> WorkflowSchedule:
    """Stop its clock for good; runs that have begun go on."""
    async with ctx.transaction() as tx:
        schedule = moved(await lock_schedule(tx, command.id, ctx), "deleted", ctx.now())
        await tx.record(ScheduleDeleted(schedule=schedule))
        await stop(tx, schedule, ctx.now())
    return schedule


def moved(schedule: WorkflowSchedule, status: ScheduleStatus, at: datetime) -> WorkflowSchedule:
    """The next version of the schedule."""
    changes = {"version": schedule.version + 1, "status": status, "updated_at": at}
    return schedule.model_copy(update=changes)


async def stop(tx: Transaction, schedule: WorkflowSchedule, at: datetime) -> None:
    """Stop the clock, and give up what waits for the run before."""
    await tx.execute(store.SET_CLOCK, schedule.id, None)
    for row in await tx.rows(store.QUEUED, schedule.id):
        firing = ScheduleFiring.model_validate(dict(row))
        changes = {"version": firing.version + 1, "status": "skipped", "decided_at": at}
        await tx.record(FiringPassed(firing=firing.model_copy(update=changes)))


@service.handles(schedules.schedule_times)
async def times(command: NextTimes, ctx: Context) -> Times:
    """Its next times from now."""
    schedule = await load_schedule(command.id, ctx)
    return shown(schedule.timing, ctx.now(), schedule.counted_from, command.count)


@service.handles(schedules.schedule_preview)
async def preview(command: PreviewTimes, ctx: Context) -> Times:
    """The times that such a schedule would have."""
    after = command.after or ctx.now()
    return shown(command, after, after, command.count)


def shown(timing: Timing, after: datetime, counted_from: datetime, count: int) -> Times:
    """The next times, as an answer."""
    return Times(items=timetable.shown_times(timing, after, counted_from, count))


@service.handles(schedules.schedule_firings)
async def firings(command: ListFirings, ctx: Context) -> Page[ScheduleFiring]:
    """A page of what became of its times."""
    schedule = await load_schedule(command.id, ctx)
    chosen = (schedule.id, command.status)
    return await ctx.page(command, ScheduleFiring, store.FIRINGS, *chosen, sort=BY_TIME)
