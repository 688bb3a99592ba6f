"""Tokens of OAuth clients: refreshed, given back, asked about."""

import pytest

from schemas.identity import oauth, sessions
from schemas.identity.oauth import (
    ClientRefused,
    IntrospectToken,
    RevokeToken,
)
from schemas.problems import Unauthenticated
from tests.conftest import look
from tests.domains.consenting import (
    basic,
    consented,
    exchanged,
    person,
    refresh,
    refused,
    registered,
    resolve,
)

pytestmark = pytest.mark.usefixtures("platform")


async def test_a_refresh_token_is_good_once_and_a_theft_kills_the_family(ask, platform):
    ada = await person(ask, "ada")
    issued = await registered(ada)
    first = await exchanged(ask, issued, (await consented(ada, issued.client))["code"])
    second = await refresh(ask, issued, first)
    assert (await resolve(ask, second)).scopes == ("agents:read", "goals:read")
    assert (await refresh(ask, issued, first)).refresh_token == second.refresh_token  # a race
    await look(
        platform,
        "UPDATE identity.refresh_tokens SET used_at = used_at - interval '21 s'"
        " WHERE used_at IS NOT NULL RETURNING 1",
    )
    await refused(refresh(ask, issued, first), "invalid_grant")
    await refused(refresh(ask, issued, second), "invalid_grant")
    with pytest.raises(Unauthenticated):
        await resolve(ask, second)


async def test_a_refresh_token_belongs_to_its_client(ask):
    ada = await person(ask, "ada")
    issued, other = await registered(ada), await registered(ada)
    given = await exchanged(ask, issued, (await consented(ada, issued.client))["code"])
    await refused(refresh(ask, other, given), "invalid_grant")
    command = sessions.Refresh(refresh_token=given.refresh_token)
    with pytest.raises(Unauthenticated):
        await ask.as_nobody(sessions.refresh, command)
    assert await refresh(ask, issued, given)


async def test_a_refreshed_token_may_have_less_and_never_more(ask):
    ada = await person(ask, "ada")
    issued = await registered(ada)
    given = await exchanged(ask, issued, (await consented(ada, issued.client))["code"])
    await refused(refresh(ask, issued, given, scope="agents:create"), "invalid_scope")
    less = await refresh(ask, issued, given, scope="goals:read")
    assert (await resolve(ask, less)).scopes == ("goals:read",)
    again = await refresh(ask, issued, less)
    assert (await resolve(ask, again)).scopes == ("agents:read", "goals:read")


async def form_as(ask, operation, kind, issued, **form):
    header = basic(issued.client.id, issued.secret) if issued.secret else None
    if issued.secret is None:
        form["client_id"] = issued.client.id
    return await ask.as_nobody(operation, kind(form=form, authorization=header))


async def revoke(ask, issued, text):
    return await form_as(ask, oauth.revoke_token, RevokeToken, issued, token=text)


async def introspect(ask, issued, text, **form):
    return await form_as(ask, oauth.introspect_token, IntrospectToken, issued, token=text, **form)


@pytest.mark.parametrize("which", ["access_token", "refresh_token"])
@pytest.mark.parametrize("public", [True, False])
async def test_a_token_that_is_given_back_ends_its_session(ask, which, public):
    ada = await person(ask, "ada")
    issued, other = await registered(ada, confidential=not public), await registered(ada)
    given = await exchanged(ask, issued, (await consented(ada, issued.client))["code"])
    text = getattr(given, which)
    await refused(revoke(ask, other, text), "invalid_grant")
    assert await resolve(ask, given)
    assert (await revoke(ask, issued, text)).sessions == 1
    assert (await revoke(ask, issued, text)).sessions == 0
    assert (await revoke(ask, issued, "nonsense")).sessions == 0
    with pytest.raises(Unauthenticated):
        await resolve(ask, given)
    await refused(refresh(ask, issued, given), "invalid_grant")


async def test_a_client_learns_about_its_own_tokens_only(ask):
    ada = await person(ask, "ada")
    issued, other = await registered(ada), await registered(ada)
    given = await exchanged(ask, issued, (await consented(ada, issued.client))["code"])
    for text in (given.access_token, given.refresh_token):
        found = await introspect(ask, issued, text)
        assert (found.active, found.username, found.sub) == (True, "ada", ada.principal.id)
        assert (found.scope, found.client_id) == ("agents:read goals:read", issued.client.id)
        unknown = await introspect(ask, other, text)
        assert unknown.model_dump(exclude_none=True) == {"active": False}
    await revoke(ask, issued, given.refresh_token)
    for text in (given.access_token, given.refresh_token, "nonsense", "a.b.c", ""):
        assert not (await introspect(ask, issued, text)).active
    hint = introspect(ask, issued, given.access_token, token_type_hint="cookie")
    await refused(hint, "unsupported_token_type")


async def test_a_client_that_may_see_all_sessions_learns_about_all_tokens(ask):
    ada = await person(ask, "ada")
    issued = await registered(ada)
    resource = await registered(
        ask, grants=("client_credentials",), redirect_uris=(), scopes=("sessions:read",)
    )
    given = await exchanged(ask, issued, (await consented(ada, issued.client))["code"])
    assert (await introspect(ask, resource, given.access_token)).active


async def test_a_public_client_asks_about_no_token(ask):
    ada = await person(ask, "ada")
    issued = await registered(ada, confidential=False)
    given = await exchanged(ask, issued, (await consented(ada, issued.client))["code"])
    await refused(introspect(ask, issued, given.access_token), "invalid_client", ClientRefused)
