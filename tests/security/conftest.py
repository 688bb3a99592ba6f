"""Fixtures of the attack tests: an edge of a test's own, or two shared by the tests of a module."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from bus.context import Platform
from bus.credentials import Credential
from edge.app import Running
from tests.edge.conftest import admin_key, anonymous, edge, http, key_of, settings, url, watch
from tests.security.raw import Raw
from tests.security.world import World, open_world
from tests.servers import Stack

__all__ = ["admin_key", "anonymous", "edge", "http", "key_of", "settings", "url", "watch"]


@pytest.fixture
def raw(edge: Running, platform: Platform, admin_key: Credential) -> Raw:
    """Bytes to the running edge; the admin's key for those who want to be somebody."""
    return Raw(platform.settings.edge_port, admin_key.text)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(
    stack: Stack, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    """Every domain and two edges, shared by the tests of a module."""
    async with open_world(stack, template, tmp_path_factory.mktemp("world")) as opened:
        yield opened


@pytest.fixture(autouse=True)
async def _fresh_limits(request: pytest.FixtureRequest) -> None:
    """What earlier tests have used up of the limits is given back."""
    if "world" in request.fixturenames:
        request.getfixturevalue("world").give_back_limits()
