"""Queues: at most so many runs of an owner at once, the others wait their turn.

A run has its place from its beginning to its end, whatever it waits for in between. Whoever gives
a place holds the queue's lock until the commit, so that two who count at once never count the
same; the end of a run gives its place to the next one in its own transaction.

Who holds the lock of a queued run never asks for that of its queue: that order belongs to whoever
lets the run in.
"""

from datetime import datetime

from bus.database import Transaction
from handlers.workflows import fairness, store
from handlers.workflows.fairness import Waiting
from schemas.workflows.document import Document
from schemas.workflows.runs import PRIORITY, Drive, RunMoved, WorkflowRun

LET_IN_AT_ONCE_MAX = 100


def named(run: WorkflowRun, document: Document) -> WorkflowRun:
    """The run with its document's queue."""
    if document.queue is None:
        return run
    queue = document.queue
    return run.model_copy(update={"queue": queue.name, "runs_at_once": queue.runs_at_once})


async def placed(tx: Transaction, run: WorkflowRun) -> WorkflowRun:
    """The run as it is, or queued: its queue has no place, or others wait for the next one."""
    if run.queue is None or run.runs_at_once is None:
        return run
    await lock(tx, run.owner_id, run.queue)
    found = await tx.row(store.IN_QUEUE, run.owner_id, run.queue)
    assert found is not None
    if found["open"] < run.runs_at_once and await first(tx, run.owner_id, run.queue) is None:
        return run
    return run.model_copy(update={"status": "queued"})


async def lock(tx: Transaction, owner_id: str, queue: str) -> None:
    """Nobody else gives a place of this queue until the transaction ends."""
    await tx.execute(store.LOCK_QUEUE, f"{owner_id}/{queue}")


async def first(
    tx: Transaction, owner_id: str, queue: str, at: datetime | None = None
) -> WorkflowRun | None:
    """The queued run whose turn it is; at no time, any of those that wait."""
    rows = await tx.rows(store.NEXT_IN_QUEUE, owner_id, queue)
    runs = {str(row["id"]): WorkflowRun.model_validate(dict(row)) for row in rows}
    if not runs or at is None:
        return next(iter(runs.values()), None)
    waiting = [Waiting(r.id, owner_id, r.priority or PRIORITY, r.started_at) for r in runs.values()]
    return runs[fairness.first_of(waiting, at).run_id]


async def let_in(tx: Transaction, owner_id: str, queue: str, at: datetime) -> None:
    """Begin the queued runs that have a place now, in their order; none goes past the first."""
    await lock(tx, owner_id, queue)
    for _ in range(LET_IN_AT_ONCE_MAX):
        turn = await first(tx, owner_id, queue, at)
        found = await tx.row(store.IN_QUEUE, owner_id, queue)
        assert found is not None
        if turn is None or found["open"] >= (turn.runs_at_once or 1):
            return
        row = await tx.row(store.LOCK_RUN, turn.id)
        run = WorkflowRun.model_validate(dict(row or {}))
        if run.status == "queued":  # and was not cancelled just now
            await tx.record(RunMoved(run=begun(run, at)))
            await tx.enqueue(Drive(run_id=run.id))


def begun(run: WorkflowRun, at: datetime) -> WorkflowRun:
    """A queued run that begins; its time counts from here."""
    deadline = run.deadline and run.deadline + (at - run.started_at)
    changes = {"status": "running", "version": run.version + 1, "deadline": deadline}
    return run.model_copy(update=changes)
