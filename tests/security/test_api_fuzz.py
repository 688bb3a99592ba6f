"""Schemathesis over the OpenAPI as each role: no 5xx, no status that is not documented."""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import status_code_conformance

from schemas.principal import ROLES, Role
from schemas.render import openapi
from tests.security.kinds import session, token
from tests.security.world import Headers, World

# The platform runs in the other thread of this process, and draws random numbers meanwhile.
OTHERS = "ignore:Do not use the `random` module inside strategies"
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.filterwarnings(OTHERS)]

EXAMPLES = 2
LAST = ("identity.sign-out", "identity.rotate-signing-key")
"""They end what the others are asked with."""
ENDLESS = "events.stream"
"""Its good answer has no end to wait for; the matrix opens it."""
SLOW = (
    "models.generate", "models.embed", "documents.summarize", "evaluation.score", "goals.decompose",
)  # fmt: skip
"""They wait for a model, which a busy machine may not give in time: 504 with its own code."""
PATIENCE_MS = "4000"
NOT_OURS = ("x-api-key", "authorization", "cookie", "x-csrf-token", "x-timeout-ms")
"""Headers that are not generated: the credential is the caller's, a short deadline is 504."""


def operations() -> list[Any]:
    """Every operation of the document."""
    schema = schemathesis.openapi.from_dict(openapi.render())
    found = [result.ok() for result in schema.get_all_operations()]
    return sorted((o for o in found if name_of(o) != ENDLESS), key=lambda o: name_of(o) in LAST)


def name_of(operation: Any) -> str:
    """The operation's name in the catalogue."""
    return str(operation.definition.raw["operationId"])


def attack(operation: Any, base_url: str, shown: Callable[[], Headers]) -> list[int]:
    """Ask with generated requests, in a thread of their own; the statuses that came."""
    statuses: list[int] = []

    @hypothesis.settings(
        max_examples=EXAMPLES, deadline=None, database=None, derandomize=True,
        phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @hypothesis.given(case=operation.as_strategy())
    def ask(case: Any) -> None:
        for header in [h for h in case.headers or {} if h.lower() in NOT_OURS]:
            del case.headers[header]
        headers = shown() | ({"x-timeout-ms": PATIENCE_MS} if name_of(operation) in SLOW else {})
        with requests.Session() as client:
            response = case.call(base_url=base_url, headers=headers, session=client, timeout=30)
        statuses.append(response.status_code)
        if response.status_code == 504 and name_of(operation) in SLOW:
            assert response.json()["error"]["code"] == "ERR_610"
            return
        case.validate_response(response, checks=[not_a_server_error, status_code_conformance])

    ask()
    return statuses


@pytest.mark.parametrize("role", ROLES)
async def test_generated_requests_break_nothing_and_are_answered_as_documented(
    world: World, role: Role
) -> None:
    person = await world.person(role)
    kinds = itertools.cycle([await session(world, person), await token(world, person)])
    statuses: list[int] = []
    for operation in operations():
        world.give_back_limits()
        statuses += await asyncio.to_thread(attack, operation, world.urls[0], lambda: next(kinds))
    assert len(statuses) >= len(operations())
    assert {200, 400, 404} <= set(statuses)
