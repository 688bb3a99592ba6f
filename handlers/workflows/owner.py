"""On whose behalf a run asks: its owner, with what he may now and not what he once might."""

import time

from bus.context import Context
from handlers.workflows.steps import WORKFLOWS, own_question
from schemas.identity import principals
from schemas.identity.principals import ActFor
from schemas.workflows.runs import WorkflowRun

ASKED_ANEW_S = 5.0


class Owner:
    """The owner of one run, asked for again every few seconds."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._known: tuple[float, Context] | None = None

    async def acting(self, run: WorkflowRun) -> Context:
        """What the owner of the run may now, or a few seconds ago.

        Raises:
            Unauthenticated: Nothing any more.
            Unavailable: Nobody answers who that is.
        """
        asked_at, owner = self._known or (0.0, self._ctx)
        if time.monotonic() - asked_at > ASKED_ANEW_S:
            question = ActFor(owner_id=run.owner_id, mandate=run.mandate)
            with own_question():
                known = await self._ctx.as_principal(WORKFLOWS).call(principals.act_for, question)
            owner = self._ctx.as_principal(known)
            self._known = (time.monotonic(), owner)
        return owner
