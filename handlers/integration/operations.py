"""What is answered about dead letters. How a queue of them goes on is in `bus/letters.py`."""

from bus import letters
from bus.context import Context
from bus.database import Transaction
from handlers.integration import rules, service, store
from schemas import integration
from schemas.contract import Page
from schemas.integration import (
    DeadLetter,
    DropLetter,
    GetDeadLetter,
    LetterDropped,
    LetterRequeued,
    ListDeadLetters,
    OpenedLetter,
    RequeueLetter,
)
from schemas.problems import IllegalMove, NotFound


@service.handles(integration.dead_letters)
async def listing(command: ListDeadLetters, ctx: Context) -> Page[DeadLetter]:
    """A page of rows, without their bodies."""
    wanted = (command.stream, command.consumer, command.state)
    return await ctx.page(command, DeadLetter, store.LIST, *ctx.visible, *wanted)


@service.handles(integration.dead_letter)
async def get(command: GetDeadLetter, ctx: Context) -> OpenedLetter:
    """One row with all that is in it."""
    row = await ctx.row(store.OPENED, command.id)
    body = row["body"]
    assert isinstance(body, bytes)
    return OpenedLetter.model_validate(row | rules.opened(body))


@service.handles(integration.requeue_letter)
async def requeue(command: RequeueLetter, ctx: Context) -> DeadLetter:
    """Send it again. One on its way is sent under the same message id, so it is handled once."""
    async with ctx.transaction() as tx:
        letter = await held(command.id, tx)
        if rules.requires_requeue(letter):
            await make_ready(letter, tx)
            before = await decisions(letter, tx)
            by, at = ctx.principal.id, ctx.now()
            decision = rules.decided(letter, before, "requeued", None, by, at)
            await tx.record(LetterRequeued(decision=decision))
            await letters.requeue(tx, letter.id)
        elif letter.state == "requeued":
            await letters.send_once_more(tx, letter.id)
        return await shown(letter.id, tx)


@service.handles(integration.drop_letter)
async def drop(command: DropLetter, ctx: Context) -> DeadLetter:
    """Settle it without effect; the next of its queue goes on in the same transaction."""
    async with ctx.transaction() as tx:
        letter = await held(command.id, tx)
        if rules.requires_drop(letter):
            before = await decisions(letter, tx)
            by, at = ctx.principal.id, ctx.now()
            decision = rules.decided(letter, before, "dropped", command.reason, by, at)
            await tx.record(LetterDropped(decision=decision))
            await letters.settle(tx, letter.id, "dropped", letter.consumer, letter.aggregate_id)
        return await shown(letter.id, tx)


async def held(letter_id: str, tx: Transaction) -> DeadLetter:
    """The letter; nothing else moves it or its queue until the transaction ends.

    Raises:
        NotFound: There is none.
    """
    await letters.hold(tx, letter_id)
    return await shown(letter_id, tx)


async def shown(letter_id: str, tx: Transaction) -> DeadLetter:
    """The letter as it is now.

    Raises:
        NotFound: There is none.
    """
    row = await tx.row(store.LETTER, letter_id)
    if row is None:
        raise NotFound
    return DeadLetter.model_validate(dict(row))


async def decisions(letter: DeadLetter, tx: Transaction) -> int:
    """How often something was decided about it."""
    row = await tx.row(store.DECISION, letter.id)
    return int(row["version"]) if row else 0


async def make_ready(letter: DeadLetter, tx: Transaction) -> None:
    """The row of a job must be ready before its message comes.

    Raises:
        IllegalMove: The job has gone on, or its row is forgotten.
    """
    if letter.job_id is not None and await tx.row(letters.READY_JOB, letter.job_id) is None:
        raise IllegalMove("The job is not failed, or its row is gone.", job_id=letter.job_id)
