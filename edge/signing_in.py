"""Doors of sign-in and sign-out: a browser's session goes into its cookie, never into a body."""

import orjson

from bus.client import Answer
from bus.credentials import csrf_token
from edge import answers
from edge.asking import Asking
from edge.exchange import Call
from edge.rest import OperationDoor
from edge.showing import set_cookie, shown
from schemas.identity import signing
from schemas.identity.sessions import REFRESH_S

KEY_SET_CACHED_S = 15


class SignInDoor(OperationDoor):
    """`POST /auth/login`."""

    async def pass_on(self, call: Call, answer: Answer) -> None:
        """Set the cookie, if a browser asked for one."""
        body = orjson.loads(answer.body)
        cookie = body.pop("cookie")
        if cookie is not None:
            call.exchange.added.append(set_cookie(cookie, REFRESH_S))
        await answers.reply(call.send, 200, orjson.dumps(body))


class SignOutDoor(OperationDoor):
    """`POST /auth/logout`."""

    async def pass_on(self, call: Call, answer: Answer) -> None:
        """Take the cookie back."""
        call.exchange.added.append(set_cookie("", 0))
        call.exchange.added.append((b"clear-site-data", b'"cache", "storage"'))
        await super().pass_on(call, answer)


class MeDoor(OperationDoor):
    """`GET /auth/me`; a page learns its CSRF token from it after a reload."""

    async def pass_on(self, call: Call, answer: Answer) -> None:
        """Add the token of a browser's session."""
        credential = shown(call.exchange)
        if credential is not None and credential.kind == "session":
            call.exchange.added.append((b"x-csrf-token", csrf_token(credential.text).encode()))
        await super().pass_on(call, answer)


class KeySetDoor:
    """`GET /.well-known/jwks.json`: the keys that verify access tokens, for anybody."""

    name = "identity.key-set"
    may: str | None = None
    open = False
    public = True

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    async def answer(self, call: Call) -> None:
        """Ask identity; may be cached for less than a new key waits before it signs."""
        answer = await self._asking.ask(call, signing.key_set, b"{}")
        call.exchange.policy = [(b"cache-control", b"public, max-age=%d" % KEY_SET_CACHED_S)]
        await answers.reply(call.send, 200, answer.body)
