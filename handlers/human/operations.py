"""What the inbox answers: to those who ask people, and to the people."""

from bus import json_schemas
from bus.context import Context
from bus.database import Transaction
from handlers.human import rules, service, store
from schemas import human
from schemas.contract import Page
from schemas.human import (
    AnswerTask,
    AskPerson,
    ClaimTask,
    DelegateTask,
    GetTask,
    HumanTask,
    ListTasks,
    NobodyThere,
    ReleaseTask,
    SettleTask,
    TaskAnswered,
    TaskAsked,
    TaskExpired,
    TaskMoved,
    TaskWithdrawn,
    WithdrawTask,
)
from schemas.identity import principals
from schemas.identity.principals import FindPerson
from schemas.principal import Principal
from schemas.problems import NotFound

INBOX = Principal(id="human", kind="service", via="bus")


async def find(tx: Transaction, task_id: str) -> HumanTask | None:
    """The task, if it is there, held until the transaction ends."""
    row = await tx.row(store.LOCK, task_id)
    return HumanTask.model_validate(dict(row)) if row else None


async def held(tx: Transaction, task_id: str) -> HumanTask:
    """The task, held until the transaction ends.

    Raises:
        NotFound: It is not there.
    """
    task = await find(tx, task_id)
    if task is None:
        raise NotFound(id=task_id)
    return task


def require_concerned(task: HumanTask, ctx: Context) -> HumanTask:
    """The task, if the caller may know of it; one that is meant for the caller counts as his own.

    Raises:
        NotFound: He may not.
    """
    mine = rules.concerns(task, ctx.principal)
    ctx.require_owner(ctx.principal.id if mine else task.owner_id, task.id, task.run_id)
    return task


async def require_person(person_id: str, ctx: Context) -> None:
    """Refuse to wait for somebody who cannot answer.

    Raises:
        NobodyThere: There is no such person, or not any more.
    """
    try:
        await ctx.as_principal(INBOX).call(principals.person, FindPerson(id=person_id))
    except NotFound:
        raise NobodyThere(assignee_id=person_id) from None


async def seen(task_id: str, ctx: Context) -> HumanTask:
    """The task as it is now, if the caller may know of it.

    Raises:
        NotFound: It is not there, or not for him.
    """
    task = HumanTask.model_validate(await ctx.row(store.GET, task_id))
    return require_concerned(task, ctx)


@service.handles(human.ask)
async def ask(command: AskPerson, ctx: Context) -> HumanTask:
    """Put it into the inbox, unless it is there; what is asked anew is open again."""
    if command.assignee_id is not None and not await ctx.database.row(store.GET, command.id):
        await require_person(command.assignee_id, ctx)
    async with ctx.transaction() as tx:
        before = await find(tx, command.id)
        task = rules.asked(command, before, ctx.now())
        if task is None:
            assert before is not None
            return before
        await tx.record(TaskAsked(task=task))
    return task


@service.handles(human.settle)
async def settle(command: SettleTask, ctx: Context) -> HumanTask:
    """The task as it is now; nobody need wait for the sweep."""
    async with ctx.transaction() as tx:
        task = await held(tx, command.id)
        if rules.overdue(task, ctx.now()):
            task = rules.moved(task, "expired", ctx.now())
            await tx.record(TaskExpired(task=task))
    return task


@service.handles(human.withdraw)
async def withdraw(command: WithdrawTask, ctx: Context) -> HumanTask:
    """Out of the inbox; what is over stays as it is."""
    async with ctx.transaction() as tx:
        task = await held(tx, command.id)
        if task.status == "open":
            task = rules.moved(task, "withdrawn", ctx.now())
            await tx.record(TaskWithdrawn(task=task))
    return task


@service.handles(human.listing)
async def listing(command: ListTasks, ctx: Context) -> Page[HumanTask]:
    """A page of rows; what is meant for the caller counts as his own."""
    owner_id, allowed, denied = ctx.visible
    by_grant_only = owner_id == ""
    me, roles = ("", ()) if by_grant_only else (ctx.principal.id, ctx.principal.roles)
    chosen = (command.mine, command.status, command.kind, command.for_role, command.due_before)
    return await ctx.page(
        command, HumanTask, store.LIST, owner_id, allowed, denied, me, list(roles), *chosen
    )


@service.handles(human.get)
async def get(command: GetTask, ctx: Context) -> HumanTask:
    """One row."""
    return await seen(command.id, ctx)


@service.handles(human.claim)
async def claim(command: ClaimTask, ctx: Context) -> HumanTask:
    """Into the caller's hands."""
    async with ctx.transaction() as tx:
        before = require_concerned(await held(tx, command.id), ctx)
        task = rules.claimed(before, ctx.principal, ctx.now())
        await tx.record(TaskMoved(task=task))
    return task


@service.handles(human.release)
async def release(command: ReleaseTask, ctx: Context) -> HumanTask:
    """Out of anybody's hands."""
    async with ctx.transaction() as tx:
        task = rules.released(require_concerned(await held(tx, command.id), ctx), ctx.now())
        await tx.record(TaskMoved(task=task))
    return task


@service.handles(human.delegate)
async def delegate(command: DelegateTask, ctx: Context) -> HumanTask:
    """To somebody else, who is there; whoever may not know of the task does not learn that."""
    await seen(command.id, ctx)
    await require_person(command.assignee_id, ctx)
    async with ctx.transaction() as tx:
        before = require_concerned(await held(tx, command.id), ctx)
        task = rules.delegated(before, command.assignee_id, ctx.principal, ctx.now())
        await tx.record(TaskMoved(task=task))
    return task


@service.handles(human.answer)
async def answer(command: AnswerTask, ctx: Context) -> HumanTask:
    """The first answer that fits counts; whoever waits for it follows the event."""
    async with ctx.transaction() as tx:
        before = require_concerned(await held(tx, command.id), ctx)
        task = rules.answered(before, command, ctx.principal, ctx.now())
        json_schemas.require_fit(task.answer_schema, task.answer, "/answer")
        await tx.record(TaskAnswered(task=task))
    return task
