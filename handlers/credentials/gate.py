"""The gate between the bus and programs of others.

    somebody connects ─► nats-server ─ who is it? ─► gate: password, key, permission table
                                     ◄─ signed rights ─┘
    rights change      ─► evt.identity. · evt.credentials. ─► gate looks at every open connection
                                     ◄─ show it out ───┘        and compares what it was given

The gate has a connection of its own, in the account SYS, as the user `gatekeeper`. Any number of
processes may keep it. When none does, nobody new comes in, and whoever is in stays until the end
of the rights that were signed.
"""

import asyncio
import contextlib
from typing import Any

import nats
import orjson
from nats.aio.client import Client as Connection
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from bus import telemetry, tls
from bus.connection import connect_options, hang_up
from bus.context import Context
from handlers.credentials import rules, standing
from handlers.credentials.claims import ACCOUNT, Issuer, Login, read
from schemas.contract import Event, Problem
from schemas.problems import Unauthenticated
from schemas.wiring import of as wiring_of

LOGIN = "$SYS.REQ.USER.AUTH"
QUEUE = "gatekeeper"
DECIDE_S = 1.5
LOOK_EVERY_S = 5.0
LOOK_AGAIN_S = 0.5
CONNECTIONS_MAX = 4096


class Gate:
    """Lets in and shows out."""

    def __init__(self, ctx: Context, issuer: Issuer, connection: Connection) -> None:
        self._ctx, self._issuer, self._connection = ctx, issuer, connection
        self._changed = asyncio.Event()
        self._answers = connection.new_inbox()

    async def keep(self) -> None:
        """Until cancelled."""
        self._ctx.platform.rights.on_change(self._changed.set)  # grants as they are known here
        heard = [await self._hear(event) for event in wiring_of("credentials").hears]
        try:
            await self._connection.subscribe(self._answers, cb=self._look_at)
            await self._connection.subscribe(LOGIN, queue=QUEUE, cb=self._login)
            while True:
                await self._look()
                self._changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_EVERY_S):
                        await self._changed.wait()
                        await self._look()
                        await asyncio.sleep(
                            LOOK_AGAIN_S
                        )  # whoever was on the way in then is in now
        finally:
            for subscription in heard:
                with contextlib.suppress(NatsError):
                    await subscription.unsubscribe()

    async def _hear(self, event: type[Event]) -> Any:
        async def heard(_: Msg) -> None:
            self._changed.set()

        subject = f"{event.subject_root()}.*"
        return await self._ctx.platform.connection.subscribe(subject, cb=heard)

    async def _login(self, message: Msg) -> None:
        """One at a time: guessing costs the guessers their turn and nothing else."""
        try:
            login = read(message.data)
        except (ValueError, KeyError) as broken:
            telemetry.log().warning("login not understood", error=repr(broken))
            return
        await message.respond(await self._decide(login))

    async def _decide(self, login: Login) -> bytes:
        try:
            async with asyncio.timeout(DECIDE_S):
                found = await standing.of_login(login.user, login.password, self._ctx)
            rights = rules.rights(login.user, found.principal, self._ctx.platform.rights.policy)
        except Exception as refusal:  # an unknown state lets nobody in
            telemetry.log().info("not let in", user=login.user[:64], reason=repr(refusal))
            return self._issuer.refuse(login)
        return self._issuer.admit(login, rights, found.until, self._ctx.now())

    async def _look(self) -> None:
        """Ask every server for its connections; the answers come to `_look_at`."""
        asked = {"acc": ACCOUNT, "auth": True, "limit": CONNECTIONS_MAX}
        await self._connection.publish(
            "$SYS.REQ.SERVER.PING.CONNZ", orjson.dumps(asked), reply=self._answers
        )

    async def _look_at(self, message: Msg) -> None:
        answer = orjson.loads(message.data)
        server = answer["server"]["id"]
        for one in (answer.get("data") or {}).get("connections") or ():
            name = one.get("authorized_user", "")
            if not await self._still_so(name):
                telemetry.log().info("shown out", user=name)
                await self._connection.publish(
                    f"$SYS.REQ.SERVER.{server}.KICK",
                    orjson.dumps({"cid": one["cid"]}),
                    reply=self._answers,  # without one the server does nothing
                )

    async def _still_so(self, name: str) -> bool:
        """Whether somebody who is in would get the same rights again; silence is not a no."""
        credential_id, _, digest = name.partition(".")
        try:
            found = await standing.of_credential(credential_id, self._ctx)
            policy = self._ctx.platform.rights.policy
        except Unauthenticated:
            return False
        except Problem as unknown:
            telemetry.log().warning("rights are not known", error=str(unknown))
            return True
        return rules.rights(credential_id, found.principal, policy).digest == digest


async def open_gate(ctx: Context) -> None:
    """Keep the gate until cancelled; without seeds, whoever runs the server lets people in."""
    settings = ctx.settings
    if settings.gatekeeper_seed is None or settings.issuer_seed is None:
        return
    as_gatekeeper = settings.model_copy(
        update={"nats_role": QUEUE, "nats_seed": settings.gatekeeper_seed}
    )
    servers = settings.nats_url.get_secret_value().split(",")
    connection = await nats.connect(
        servers, **connect_options(QUEUE, as_gatekeeper), **tls.nats_options(settings, "handlers")
    )
    try:
        issuer = Issuer(settings.issuer_seed.get_secret_value())
        await Gate(ctx, issuer, connection).keep()
    finally:
        await hang_up(connection)
