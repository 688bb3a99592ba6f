"""Decisions about sessions: how long they last, and what a second use of a refresh token means."""

from datetime import datetime, timedelta
from typing import Literal

from schemas.identity.sessions import IDLE_S, REFRESH_S, REPLAY_S, Ended, Session, SessionKind
from schemas.problems import Unauthenticated


def new_session(
    owner_id: str,
    kind: SessionKind,
    *,
    id: str,
    at: datetime,
    client_id: str | None = None,
    scopes: tuple[str, ...] = (),
    lives_s: int = REFRESH_S,
) -> Session:
    """A session that ends by itself after 7 days, or sooner if told so."""
    return Session(
        id=id,
        version=1,
        owner_id=owner_id,
        kind=kind,
        client_id=client_id,
        scopes=scopes,
        created_at=at,
        expires_at=at + timedelta(seconds=lives_s),
        ended_at=None,
        ended_because=None,
    )


def ended(session: Session, because: Ended, at: datetime) -> Session:
    """The session at its end; a second time changes nothing."""
    if session.ended_at is not None:
        return session
    return session.model_copy(
        update={"version": session.version + 1, "ended_at": at, "ended_because": because}
    )


def good(session: Session, at: datetime) -> bool:
    """Whether it opens anything at that moment."""
    return session.ended_at is None and at < session.expires_at


def narrowed(session: Session, scopes: tuple[str, ...]) -> Session:
    """The session as far as a token of it goes, which may have been given for less.

    Raises:
        Unauthenticated: Nothing is left; no scopes at all would mean everything.
    """
    if not scopes or scopes == session.scopes:
        return session
    left = tuple(s for s in scopes if not session.scopes or s in session.scopes)
    if not left:
        raise Unauthenticated
    return session.model_copy(update={"scopes": left})


def idle(used_at: datetime, at: datetime) -> bool:
    """Whether a browser's session was left alone for too long."""
    return at - used_at >= timedelta(seconds=IDLE_S)


Use = Literal["first", "replay", "reuse"]


def use_of(used_at: datetime | None, at: datetime) -> Use:
    """What another use of a refresh token is: the first, a race with the first, or a theft."""
    if used_at is None:
        return "first"
    return "replay" if at - used_at <= timedelta(seconds=REPLAY_S) else "reuse"
