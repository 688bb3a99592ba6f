"""Every kind of credential of the matrix, as a person shows it."""

import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

from schemas.identity import sessions
from schemas.identity.clients import RegisterClient, register_client
from schemas.identity.keys import IssueKey, issue_key
from schemas.identity.sessions import EndSession
from schemas.principal import permissions
from tests.conftest import look
from tests.security.forging import claims_of, signing_pair, token_of
from tests.security.matrix import SCOPES
from tests.security.world import Headers, Person, World, bearer, cookie

Factory = Callable[[World, Person], Awaitable[Headers]]


async def session(world: World, person: Person) -> Headers:
    """A browser's cookie, as a page of the edge itself sends it."""
    return cookie(await world.sign_in(person, browser=True))


async def token(world: World, person: Person) -> Headers:
    """A fresh access token."""
    signed = await world.sign_in(person)
    assert signed.tokens is not None
    return bearer(signed.tokens.access_token)


async def expired(world: World, person: Person) -> Headers:
    """A token of a good session that was good until a minute ago."""
    signed, now = await world.sign_in(person), int(time.time())
    claims = claims_of(world, signed.session, iat=now - 3660, nbf=now - 3660, exp=now - 60)
    return bearer(token_of(await signing_pair(world), claims))


async def revoked(world: World, person: Person) -> Headers:
    """A token whose session was ended."""
    signed = await world.sign_in(person)
    assert signed.tokens is not None
    await world.admin(sessions.end_session, EndSession(id=signed.session.id))
    return bearer(signed.tokens.access_token)


async def key(world: World, person: Person) -> Headers:
    """An API key with all that its owner may."""
    command = IssueKey(name="all", roles=person.user.roles)
    issued = await world.as_owner(person)(issue_key, command)
    return bearer(issued.secret)


async def scoped_key(world: World, person: Person) -> Headers:
    """An API key that is narrowed to `SCOPES`."""
    command = IssueKey(name="narrow", roles=person.user.roles, scopes=SCOPES)
    issued = await world.as_owner(person)(issue_key, command)
    return bearer(issued.secret)


async def client(world: World, person: Person) -> Headers:
    """The token of a program that acts for itself, with all that its owner may."""
    command = RegisterClient(
        name="all", grants=("client_credentials",), scopes=permissions(), roles=person.user.roles
    )
    issued = await world.as_owner(person)(register_client, command)
    form = {"grant_type": "client_credentials", "scope": " ".join(permissions())}
    answer = await world.http().post(
        f"{world.urls[0]}/oauth/token", data=form, auth=(issued.client.id, issued.secret)
    )
    return bearer(answer.json()["access_token"])


async def run(world: World, person: Person) -> Headers:
    """The token of an agent's run, as identity writes it."""
    run_id = world.platform.clock.new_id()
    await look(
        world.platform,
        "INSERT INTO identity.sessions (id, version, owner_id, kind, scopes, created_at, expires_at)"
        " VALUES ($1, 1, $2, 'run', '{}', now(), now() + interval '1 day')",
        run_id, person.user.id,
    )  # fmt: skip
    session = SimpleNamespace(id=run_id, owner_id=person.user.id)
    claims = claims_of(world, session, act={"run": run_id, "agent": run_id}, tools=[], tokens=1000)
    return bearer(token_of(await signing_pair(world), claims))


FACTORIES: dict[str, Factory] = {
    "session": session, "token": token, "expired": expired, "revoked": revoked,
    "key": key, "scoped-key": scoped_key, "client": client, "run": run,
}  # fmt: skip
