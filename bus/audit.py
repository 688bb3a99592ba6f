"""What a process tells of the requests that it saw and of what it decided.

    note ─► two bounded queues ─► twice a second one batch ─► audit.record

Noting costs a dictionary and nothing waits for it. A batch keeps its key until it is answered, so
one that was written although its answer was lost is not written twice. While nobody answers, the
queues fill; then the oldest requests are dropped first, decisions last, and what is dropped is
counted. A process that is killed takes up to half a second of notes with it.
"""

import asyncio
import contextlib
import re
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from prometheus_client import Counter

from bus import redaction, telemetry
from bus.client import Client, for_itself
from bus.clock import Clock
from bus.credentials import Signer
from bus.secrets import SecretRead
from schemas import audit
from schemas.audit import BATCH_MAX, POLICY, TEXT_MAX
from schemas.contract import Json, Operation, Problem
from schemas.principal import Principal
from schemas.problems import KeyReused, Malformed, TooLarge

EVERY_S = 0.5
WAITING_MAX = 20_000
RETRY_S, RETRY_S_MAX = 0.5, 5.0
FLUSH_S = 3.0
UNFIT = (Malformed, TooLarge, KeyReused)

UNPRINTABLE = re.compile(r"[^\x20-\x7e\xa1-\u1fff\u2c00-\ud7ff\uf900-\ufffd]")

dropped_total = Counter(
    "portal_audit_dropped_total", "Notes that were lost, by kind: request or entry.", ["kind"]
)


@dataclass(frozen=True, slots=True)
class Batch:
    """Notes under way; asked again under the same key until they are answered."""

    key: str
    body: bytes
    entries: list[Json]
    requests: int


class Auditor:
    """Collects notes and sends them, off the path of the requests."""

    def __init__(self, client: Client, signer: Signer, clock: Clock, process: str) -> None:
        self._client, self._signer, self._clock = client, signer, clock
        self._principal = Principal(id=process, kind="service")
        self._requests: deque[Json] = deque()
        self._entries: deque[Json] = deque()
        self._batch: Batch | None = None
        self._full = asyncio.Event()
        self._sending = asyncio.Lock()
        self._dropped = 0
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._requests) + len(self._entries)

    def request(self, row: Json) -> None:
        """Note a finished HTTP request: the fields of `schemas.audit.HttpRequest`."""
        self._requests.append(row)
        self._keep_bounds()

    def entry(self, row: Json) -> None:
        """Note a decision: the fields of `schemas.audit.Noted`."""
        self._entries.append(row)
        self._keep_bounds()

    def secret(self, read: SecretRead) -> None:
        """Note that this process has read a secret; `read` does not hold its value."""
        self.entry({
            "at": read.at, "door": "process", "actor": self._principal.id, "via": None,
            "action": "secret.read", "resource": "secret", "resource_id": plain(read.name),
            "decision": "allow", "reason": None, "permission": None, "policy": POLICY,
            "request_id": None, "address": None, "credential": None,
            "details": {"provider": read.provider},
        })  # fmt: skip

    def _keep_bounds(self) -> None:
        waiting = len(self)
        if waiting > WAITING_MAX:
            kind, queue = (
                ("request", self._requests) if self._requests else ("entry", self._entries)
            )
            queue.popleft()
            self._dropped += 1
            dropped_total.labels(kind).inc()
        elif waiting == BATCH_MAX:
            self._full.set()

    def start(self) -> None:
        """Send from now on."""
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        pause_s = RETRY_S
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await self._full.wait()
            try:
                await self._send_all()
                pause_s = RETRY_S
            except Exception as away:
                telemetry.log().warning("audit is waiting", notes=len(self), error=str(away))
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, RETRY_S_MAX)

    async def _send_all(self) -> None:
        async with self._sending:
            self._full.clear()
            while self._batch or len(self):
                self._batch = self._batch or self._next_batch()
                await self._send(self._batch)
                self._batch = None
        if self._dropped:
            telemetry.log().error("audit notes were dropped", count=self._dropped)
            self._dropped = 0

    def _next_batch(self) -> Batch:
        entries = taken(self._entries, BATCH_MAX)
        requests = taken(self._requests, BATCH_MAX - len(entries))
        body = orjson.dumps({"entries": entries, "requests": requests})
        return Batch(self._clock.new_id(), body, entries, len(requests))

    async def _send(self, batch: Batch) -> None:
        """Ask for the batch to be written.

        Raises:
            Problem: It may have been or not; ask again under the same key.
        """
        ask = for_itself(self._principal, self._signer, self._clock, batch.key)
        try:
            await self._client.ask_raw(audit.record, batch.body, ask)
        except UNFIT as refused:  # asking again would be refused again, and hold up all the others
            self._lose(batch, refused)

    def _lose(self, batch: Batch, why: Problem) -> None:
        """What cannot be delivered is counted; decisions stand in the log of the process."""
        dropped_total.labels("request").inc(batch.requests)
        dropped_total.labels("entry").inc(len(batch.entries))
        telemetry.log().error(
            "audit batch lost", why=str(why), details=why.details, requests=batch.requests,
            entries=batch.entries,
        )  # fmt: skip

    async def flush(self) -> None:
        """Send what waits, for 3 s at most."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(FLUSH_S):
                await self._send_all()

    async def close(self) -> None:
        """Send what waits and stop; what nobody takes is logged and lost."""
        await self.flush()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        while self._batch or len(self):
            self._lose(self._batch or self._next_batch(), Problem("Nobody took it."))
            self._batch = None


def refused(
    operation: Operation[Any, Any],
    refusal: Problem,
    principal: Principal | None,
    at: datetime,
    request_id: str | None,
) -> Json:
    """The entry of a request that was refused where it is handled, by whatever way it came."""
    return {
        "at": at, "door": "bus", "actor": plain(principal.id if principal else "-"),
        "via": principal.via if principal else None, "action": operation.name,
        "resource": operation.domain, "resource_id": None, "decision": "deny",
        "reason": refusal.code, "permission": operation.may, "policy": POLICY,
        "request_id": plain(request_id) if request_id else None, "address": None,
        "credential": principal.kind if principal else None, "details": {},
    }  # fmt: skip


def plain(text: str, most: int = TEXT_MAX) -> str:
    """Text from outside as the log keeps it: in one line, cut, and without what looks secret."""
    return redaction.text(UNPRINTABLE.sub("?", text[: 4 * most]))[:most]


def taken(queue: deque[Any], most: int) -> list[Any]:
    """The oldest of a queue, taken out."""
    return [queue.popleft() for _ in range(min(most, len(queue)))]
