"""Repairs and replays with the rights of an installation: nothing more is needed, nothing refused."""

from argparse import Namespace

import pytest

from bus import repairs
from schemas import agents, events, supervision
from schemas.events import ReplayEvents, VerifyEvents
from schemas.supervision import GetJob
from tests.bus.test_delivery import published
from tests.conftest import eventually
from tests.factories import create_agent
from tests.security import secured_bus
from tests.security.secured_bus import bus_ready, bus_server, client  # noqa: F401

SAID = Namespace(yes=True, json=True, days=None)


@pytest.fixture
def settings(settings, bus_server):  # noqa: F811
    return secured_bus.of_handlers(settings, bus_server)


async def test_the_admin_rebuilds_the_stream_and_reads_it_back(
    platform, ask, settings, bus_server, capsys  # noqa: F811
):  # fmt: skip
    await ask(agents.create, create_agent())
    await eventually(lambda: published(platform))
    before = bus_server.violations()
    admin = bus_server.settings(settings, "admin")

    assert await repairs.rebuild_stream(admin, SAID) == 0
    assert await repairs.salvage_events(admin, SAID) == 0

    assert '"waiting": 0' in capsys.readouterr().out
    assert bus_server.violations() == before
    assert (await ask(events.verify, VerifyEvents())).ok


async def test_a_replay_needs_no_more_than_its_domain_may(platform, ask, bus_server):  # noqa: F811
    before = bus_server.violations()
    job = await ask(events.replay, ReplayEvents(target="subject"))

    async def succeeded():
        now = await ask(supervision.job, GetJob(id=job.id))
        assert now.status in ("queued", "running", "succeeded"), now.error
        return now.status == "succeeded"

    await eventually(succeeded)
    assert bus_server.violations() == before
