"""How long a revoked key is still let in, at another edge than the one that revoked it."""

import asyncio
import secrets
import time

from tests.load import keepalive
from tests.load.cases import another_edge, reachable
from tests.load.keepalive import Doors, Measured
from tests.load.machine import Machine
from tests.load.rows import Row, with_cpu

TIMES = 30
"""Each ends with a 401, of which an address has a hundred a minute."""
FORGOTTEN_S = 10.0


async def revoked(machine: Machine) -> Row:
    """From the request to revoke to the first 401."""
    port, process = another_edge(machine, "4096")
    try:
        await reachable("127.0.0.1", port)
        async with Doors(*machine.place, machine.key, 1) as doors:
            return await with_cpu(machine.pids(), lambda: again_and_again(doors, port))
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait)


async def again_and_again(doors: Doors, port: int) -> Measured:
    """One key after another."""
    measured, began = Measured(), time.perf_counter()
    for _ in range(TIMES):
        name = f"bench-{secrets.token_hex(5)}"
        made = await doors.post("/api/v1/api-keys", {"name": name})
        request = keepalive.get("/api/v1/auth/me", "127.0.0.1", made["secret"])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        measured.failed += not await keepalive.answer(reader)  # known there from now on
        asked = time.perf_counter()
        await doors.delete(f"/api/v1/api-keys/{made['key']['id']}")
        let_in = True
        while let_in and time.perf_counter() - asked < FORGOTTEN_S:
            writer.write(request)
            let_in = await keepalive.answer(reader)
        writer.close()
        measured.failed += let_in
        measured.latencies_s.append(time.perf_counter() - asked)
    measured.seconds = time.perf_counter() - began
    return measured
