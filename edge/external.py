"""Doors of the sign-in by an external provider: there, and back.

    /auth/oidc/start ─► cookie (a random text, and where to go afterwards) ─► the provider's page
    /auth/oidc/callback?code&state ─► identity exchanges the code ─► session cookie ─► there

The cookie is what binds the provider's answer to the browser that was sent: an answer that
somebody else began is refused. It lives for ten minutes and is gone after the first answer.
"""

import re
import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote, urlencode, urlsplit

import orjson

from edge.asking import Asking
from edge.command import parameters
from edge.exchange import Call, Exchange
from edge.oauth import SIGN_IN, go_to
from edge.showing import COOKIE_BYTES_MAX, set_cookie
from schemas.contract import Problem
from schemas.identity import external
from schemas.identity.sessions import REFRESH_S

COOKIE = "__Host-portal-oidc"
LIVES_S = 600
NEXT = "/"
NEXT_MAX = 3000
START, CALLBACK = "/auth/oidc/start", "/auth/oidc/callback"
TAKEN = ("code", "state", "iss")
_OWN_PATH = re.compile(r"/(?![/\\])[\x21\x23-\x5b\x5d-\x7e]*")
_BOUND = re.compile(r"[A-Za-z0-9_-]{43}")


def own_path(text: str | None) -> str:
    """Where to go after the sign-in: only ever a path of ours."""
    safe = text is not None and len(text) <= NEXT_MAX and _OWN_PATH.fullmatch(text)
    return text if safe and text is not None else NEXT


class StartDoor:
    """`GET /auth/oidc/start`."""

    name = "identity.start-external"
    may: str | None = None
    open = False
    public = True

    def __init__(self, asking: Asking, public_url: str) -> None:
        self._asking, self._public_url = asking, public_url

    async def answer(self, call: Call) -> None:
        """Give the browser its cookie and send it to the provider."""
        after = own_path(dict(parameters(call.scope["query_string"])).get("next"))
        if call.exchange.header(b"host") != urlsplit(self._public_url).netloc:
            query = urlencode({"next": after})  # the provider sends people back there
            await go_to(call, f"{self._public_url}{START}?{query}")
            return
        bound = secrets.token_urlsafe(32)
        answer = await self._asking.ask(
            call, external.start_external, orjson.dumps({"bound": bound})
        )
        cookie = f"{bound}.{quote(after, safe='')}"
        call.exchange.added.append(set_cookie(cookie, LIVES_S, COOKIE))
        await go_to(call, orjson.loads(answer.body)["location"])


class CallbackDoor:
    """`GET /auth/oidc/callback`."""

    name = "identity.finish-external"
    may: str | None = None
    open = False
    public = True

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    async def answer(self, call: Call) -> None:
        """Open the session, or say on the sign-in page why not."""
        call.exchange.added.append(set_cookie("", 0, COOKIE))
        bound, after = in_cookie(call.exchange)
        given = dict(parameters(call.scope["query_string"]))
        fields = {name: given[name] for name in TAKEN if name in given}
        if bound is None or "code" not in fields or "state" not in fields:
            await go_to(call, f"{SIGN_IN}?refused=ERR_207")
            return
        try:
            body = orjson.dumps({"bound": bound} | fields)
            answer = await self._asking.ask(call, external.finish_external, body)
        except Problem as refused:
            await go_to(call, f"{SIGN_IN}?refused={refused.code}")
            return
        cookie = orjson.loads(answer.body)["cookie"]
        call.exchange.added.append(set_cookie(cookie, REFRESH_S))
        await go_to(call, after)


def in_cookie(exchange: Exchange) -> tuple[str | None, str]:
    """The random text and the path in the cookie."""
    header = exchange.header(b"cookie")
    if header is None or len(header) > COOKIE_BYTES_MAX:
        return None, NEXT
    try:
        morsel = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return None, NEXT
    bound, _, after = (morsel.value if morsel else "").partition(".")
    if not _BOUND.fullmatch(bound):
        return None, NEXT
    [(_, path)] = parameters(f"p={after}".encode())
    return bound, own_path(path)
