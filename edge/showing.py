"""What a request shows to say who it is: an API key, an access token or a session cookie.

A key or token in a header wins and the cookie is not looked at; two different ones in headers are
none. The cookie counts only where a foreign page cannot have sent it: a request that changes
something must come from our own origin and carry the session's CSRF token.
"""

import hmac
from collections.abc import Collection
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Literal

from bus.credentials import csrf_token, kind_of
from edge.exchange import Exchange
from schemas.problems import CrossSite

COOKIE = "__Host-portal"
COOKIE_BYTES_MAX = 8192
TEXT_BYTES_MAX = 4096
SAFE_METHODS = ("GET", "HEAD", "OPTIONS", "WS")
TRUSTED_SITES = ("same-origin", "none")

Kind = Literal["key", "token", "session"]


@dataclass(frozen=True, slots=True)
class Shown:
    """A credential as it came."""

    kind: Kind
    text: str


def shown(exchange: Exchange) -> Shown | None:
    """What the request shows; None for nothing, or nothing that could be one of ours."""
    bearer, plain = exchange.header(b"authorization"), exchange.header(b"x-api-key")
    if bearer is None and plain is None:
        return in_cookie(exchange)
    if bearer is not None:
        scheme, _, bearer = bearer.partition(" ")
        bearer = bearer.strip()
        if scheme.lower() != "bearer" or (plain is not None and plain != bearer):
            return None
    return of_text(bearer or plain or "")


def of_text(text: str) -> Shown | None:
    """A key or access token; cookies are not taken from elsewhere."""
    if not text.isascii() or len(text) > TEXT_BYTES_MAX:
        return None
    if kind_of(text) == "key":
        return Shown("key", text)
    return Shown("token", text) if text.count(".") == 2 else None  # noqa: PLR2004 - RFC 7515


def in_cookie(exchange: Exchange) -> Shown | None:
    """The session in the cookie header."""
    header = exchange.header(b"cookie")
    if header is None or COOKIE not in header or len(header) > COOKIE_BYTES_MAX:
        return None
    try:
        morsel = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return None
    if morsel is None or kind_of(morsel.value) != "session":
        return None
    return Shown("session", morsel.value)


def require_own_site(exchange: Exchange, credential: Shown, origins: Collection[str]) -> None:
    """Refuse what a foreign page may have made a browser send.

    Raises:
        CrossSite: It changes something, and does not come from our own pages.
    """
    if credential.kind != "session" or exchange.method in SAFE_METHODS:
        return
    site, origin = exchange.header(b"sec-fetch-site"), exchange.header(b"origin")
    if site is not None and site not in TRUSTED_SITES and origin not in origins:
        raise CrossSite
    if origin is not None and not is_own(origin, exchange, origins):
        raise CrossSite
    token = exchange.header(b"x-csrf-token") or ""
    if not hmac.compare_digest(token.encode(), csrf_token(credential.text).encode()):
        raise CrossSite


def is_own(origin: str, exchange: Exchange, origins: Collection[str]) -> bool:
    """Whether a page of this origin is one of ours."""
    return origin in origins or origin.partition("://")[2] == exchange.header(b"host")


def set_cookie(text: str, seconds: int, name: str = COOKIE) -> tuple[bytes, bytes]:
    """The header that opens a session in a browser; 0 seconds end it there."""
    value = f"{name}={text}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Lax"
    return b"set-cookie", value.encode()
