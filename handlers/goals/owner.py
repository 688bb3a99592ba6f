"""On whose behalf a goal asks: its owner, with what he may now and not what he once might."""

from bus.context import Context
from schemas.goals import Goal
from schemas.identity import principals
from schemas.identity.principals import ActFor
from schemas.principal import Principal

GOALS = Principal(id="goals", kind="service", via="bus")
"""As whom the platform's own operations are asked."""


async def acting_for(goal: Goal, ctx: Context) -> Context:
    """The context in which others are asked for the goal: what its owner may now.

    Raises:
        Unauthenticated: The owner may nothing any more.
    """
    question = ActFor(owner_id=goal.owner_id, mandate=goal.mandate)
    owner = await ctx.as_principal(GOALS).call(principals.act_for, question)
    return ctx.as_principal(owner)
