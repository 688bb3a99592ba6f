"""Asking an operation by its name: what a workflow's document or `registry.invoke` names.

The operation is asked on behalf of the same principal as everything else that is asked from a
context, so its own permission decides.
"""

from typing import Any

from pydantic import ValidationError

from bus.context import Context
from schemas import catalogue
from schemas.contract import Operation, Schema
from schemas.problems import malformed


def operation(name: str) -> Operation[Any, Any] | None:
    """The operation of this name, if there is one."""
    try:
        return catalogue.operation(name)
    except KeyError:
        return None


def command_of(asked: Operation[Any, Any], given: Any, at: str = "") -> Schema:
    """The request that a value makes.

    Args:
        asked: The operation.
        given: The value.
        at: A JSON pointer to where the value stands in what the caller sent.

    Raises:
        Malformed: It makes none; says with pointers what is wrong.
    """
    try:
        command: Schema = asked.request.model_validate(given)
    except ValidationError as bad:
        raise malformed(bad, at) from None
    return command


async def ask(
    ctx: Context, asked: Operation[Any, Any], command: Schema, *, key: str | None,
    timeout_s: float | None = None,
) -> Any:  # fmt: skip
    """What the operation answers, as JSON.

    Raises:
        Problem: The one that it answers.
    """
    reply = await ctx.call(asked, command, key=key, timeout_s=timeout_s)
    return reply.model_dump(mode="json")
