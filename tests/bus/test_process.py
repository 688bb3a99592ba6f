"""A handlers process from its start to the end that it was told to make."""

import asyncio
import os
import signal

import httpx2
import nats
import pytest

from bus import faults, process
from bus.micro import Announced
from handlers.__main__ import load_service
from schemas.identity import principals as identity
from schemas.identity.principals import WhoAmI
from tests.conftest import eventually
from tests.servers import free_port


async def test_a_process_is_ready_answers_drains_on_sigterm_and_ends(settings, bus_ready, ask):
    port = free_port()
    own = settings.model_copy(update={"health_port": port})
    running = asyncio.create_task(process.run(own, [load_service("identity")]))
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as private:

        async def ready():
            try:
                return (await private.get("/health/ready")).status_code == 200
            except httpx2.HTTPError:
                return False

        await eventually(ready)
        assert (await private.get("/health/live")).status_code == 200
        assert "portal_requests_total" in (await private.get("/metrics")).text
        assert (await ask(identity.me, WhoAmI())).id == "admin"
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(running, 20)
        assert not await ready()


async def test_a_process_leaves_the_roll_call_though_the_bus_does_not_hear_it(settings, bus_server):
    connection = await nats.connect(settings.nats_url.get_secret_value())
    announced = Announced(connection, load_service("identity"))
    await announced.start()
    with bus_server.asleep():
        await process.silence([announced])
    assert not announced.stopped.is_set()
    await connection.close()


def test_a_fault_point_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="before-commit"):
        faults.arm("after-lunch")
    faults.arm(None)
