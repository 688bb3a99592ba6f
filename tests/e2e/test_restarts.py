"""The platform as it is shipped, with two handlers: restarted while people use it."""

import asyncio
import json
import os
from contextlib import asynccontextmanager

import httpx2
import pytest

from tests.load.machine import PORTAL, running

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
PEOPLE = 4
NO_MODELS = ("--external", "http://127.0.0.1:1")


@pytest.fixture(scope="module")
def machine():
    """One running installation for this module."""
    with running("--handlers", "2", *NO_MODELS) as started:
        yield started


@asynccontextmanager
async def in_use(machine):
    """People who write and read one after the other, without asking again, while the block runs."""
    statuses, stop = [], asyncio.Event()

    async def person(number):
        headers = {"authorization": f"Bearer {machine.key}"}
        async with httpx2.AsyncClient(
            base_url=f"{machine.edge}/api/v1", headers=headers, timeout=30
        ) as client:
            while not stop.is_set():
                name = {"name": f"person-{number}-{len(statuses)}"}
                made = await client.post("/agents", json=name)
                found = await client.get(f"/agents/{made.json().get('id')}")
                statuses.extend((made.status_code, found.status_code))

    people = [asyncio.create_task(person(number)) for number in range(PEOPLE)]
    yield statuses
    stop.set()
    await asyncio.gather(*people)


async def restart(machine, *names):
    """`portal restart`: what it says of each process."""
    process = await asyncio.create_subprocess_exec(
        str(PORTAL), "restart", "--json", *names,
        env=os.environ | {"PORTAL_DATA": machine.status["data"]}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0
    return [(one["name"], one["state"]) for one in map(json.loads, out.splitlines())]


async def test_handlers_are_restarted_one_by_one_and_no_request_fails(machine):
    async with in_use(machine) as statuses:
        said = await restart(machine, "handlers")

    assert said == [
        ("handlers-1", "restarting"), ("handlers-1", "ready"),
        ("handlers-2", "restarting"), ("handlers-2", "ready"),
    ]  # fmt: skip
    assert len(statuses) > 2 * PEOPLE
    assert set(statuses) == {200, 201}
