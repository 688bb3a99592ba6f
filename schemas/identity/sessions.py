"""Sessions: what a sign-in opens, for a browser (a cookie) or for a program (tokens).

An access token is a signed JWT of an hour, a refresh token is opaque and good once; both name
their session, and end with it. A session lives 7 days at most; a browser's also ends when it
was not used for an hour.
"""

from datetime import datetime
from typing import Literal

from pydantic import Field

from schemas.contract import (
    KNOWN,
    Entity,
    Event,
    Id,
    Listing,
    Operation,
    Page,
    Problem,
    Schema,
    Secret,
)
from schemas.identity.users import PASSWORD_MAX, Login, User
from schemas.principal import Mandate
from schemas.problems import Expired, NotFound, TooManyRequests, Unauthenticated, VersionConflict

ACCESS_S = 3_600
REFRESH_S = 7 * 86_400
IDLE_S = 3_600
REPLAY_S = 20

SessionKind = Literal["browser", "tokens", "client", "run"]
Ended = Literal["signed-out", "ended", "reuse", "password", "disabled", "revoked"]


class Session(Entity, table="identity.sessions", read="sessions:read"):
    """What a sign-in opened. Its secrets are kept beside it, as hashes."""

    owner_id: str
    kind: SessionKind
    client_id: str | None
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    ended_because: Ended | None
    mandate: Mandate | None = Field(None, description="Of a run: what its owner left to it.")


class SignIn(Schema):
    """Sign in with login and password."""

    login: Login
    password: Secret = Field(max_length=PASSWORD_MAX)
    browser: bool = Field(
        default=False, description="Open a browser session: a cookie instead of tokens."
    )


class Tokens(Schema):
    """An access token, and how to get the next one."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - RFC 6749
    expires_in: int
    refresh_token: str | None = None
    scope: str = ""


class SignedIn(Schema):
    """Who signed in, the session, and what to show from now on."""

    user: User
    session: Session
    tokens: Tokens | None = None
    cookie: str | None = Field(None, description="Set by the edge as a cookie; never in a body.")
    csrf: str | None = Field(
        None, description="Send it as `X-CSRF-Token` with whatever changes something."
    )


class Refresh(Schema):
    """Exchange a refresh token for the next pair; each is good once."""

    refresh_token: Secret = Field(max_length=200)


class SignOut(Schema):
    """End the session of this request, or all of yours."""

    everywhere: bool = False


class SignedOut(Schema):
    """How many sessions ended."""

    sessions: int


class GetSession(Schema):
    """Show one session."""

    id: Id


class ListSessions(Listing):
    """List sessions, newest first."""

    active: bool = Field(default=True, description="Only those that are still good.")


class EndSession(Schema):
    """End a session, at once and everywhere."""

    id: Id


class SessionStarted(Event, name="identity.session_started"):
    """Somebody signed in."""

    session: Session


class SessionEnded(Event, name="identity.session_ended"):
    """A session is no longer good."""

    session: Session


class WrongPassword(Problem, code="ERR_204", status=401):
    """The login or the password is wrong."""


class TokenReused(Problem, code="ERR_205", status=401):
    """This refresh token was used before: its session is ended, sign in again."""


sign_in = Operation(
    "identity.sign-in", SignIn, SignedIn, rest="POST /auth/login", public=True, guesses=True,
    problems=(WrongPassword, TooManyRequests), emits=(SessionStarted,), idempotent=True,
    commits_itself=True,
)  # fmt: skip
refresh = Operation(
    "identity.refresh", Refresh, Tokens, rest="POST /auth/refresh", public=True,
    problems=(Unauthenticated, Expired, TokenReused, VersionConflict), emits=(SessionEnded,),
    idempotent=True, commits_itself=True,
)  # fmt: skip
sign_out = Operation(
    "identity.sign-out", SignOut, SignedOut, rest="POST /auth/logout", may=KNOWN,
    problems=(VersionConflict,), emits=(SessionEnded,), idempotent=True,
)  # fmt: skip
sessions = Operation(
    "identity.sessions", ListSessions, Page[Session], rest="GET /sessions", may="sessions:read"
)  # fmt: skip
session = Operation(
    "identity.session", GetSession, Session, rest="GET /sessions/{id}", may="sessions:read",
    problems=(NotFound,),
)  # fmt: skip
end_session = Operation(
    "identity.end-session", EndSession, Session, rest="DELETE /sessions/{id}",
    may="sessions:delete", problems=(NotFound, VersionConflict), emits=(SessionEnded,),
    idempotent=True,
)  # fmt: skip
