"""OAuth clients: how they prove themselves, act for themselves, change and end."""

import pytest
from pydantic import ValidationError

from schemas.identity import clients, oauth, users
from schemas.identity.clients import (
    ClientSecretShown,
    DeleteClient,
    GetClient,
    ListClients,
    RegisterClient,
    RotateClientSecret,
    UpdateClient,
)
from schemas.identity.keys import BeyondOwnRights
from schemas.identity.oauth import (
    ClientRefused,
    Decide,
)
from schemas.identity.users import DisableUser, UpdateUser
from schemas.problems import Denied, IllegalMove, NotFound, Unauthenticated
from tests.domains.consenting import (
    BACK,
    basic,
    consented,
    exchanged,
    person,
    refresh,
    refused,
    registered,
    request,
    resolve,
    token,
)

pytestmark = pytest.mark.usefixtures("platform")


async def test_a_client_that_proves_nothing_gets_nothing(ask):
    ada = await person(ask, "ada")
    issued, other = await registered(ada), await registered(ada)
    back = await consented(ada, issued.client)
    wrong = [
        None, "Basic", "Basic ###", "Basic /w==", "Bearer x", basic(issued.client.id, "wrong"),
        basic(issued.client.id, other.secret), basic("nobody", issued.secret),
        basic(issued.client.id, issued.secret[:-1] + ("0" if issued.secret[-1] != "0" else "1")),
    ]  # fmt: skip
    for header in wrong:
        for client_id in (issued.client.id, None):
            fields = {"authorization": header, "client_id": client_id}
            await refused(
                exchanged(ask, issued, back["code"], **fields), "invalid_client", ClientRefused
            )
    both = {"client_id": issued.client.id, "client_secret": issued.secret}
    await refused(exchanged(ask, issued, back["code"], **both), "invalid_request")
    assert await exchanged(ask, issued, back["code"], authorization=None, **both)


async def test_a_public_client_that_shows_a_secret_is_refused(ask):
    ada = await person(ask, "ada")
    public, other = await registered(ada, confidential=False), await registered(ada)
    code = (await consented(ada, public.client))["code"]
    for secret in (other.secret, "anything"):
        for form in (
            {"client_secret": secret}, {"authorization": basic(public.client.id, secret)},
        ):  # fmt: skip
            await refused(exchanged(ask, public, code, **form), "invalid_client", ClientRefused)
    assert await exchanged(ask, public, code)


async def test_two_secrets_are_good_while_one_replaces_the_other(ask):
    ada = await person(ask, "ada")
    first = await registered(ada, grants=("client_credentials",), redirect_uris=())
    second = await ada(
        clients.rotate_client_secret, RotateClientSecret(id=first.client.id, overlap_s=60)
    )
    for issued in (first, second):
        assert await token(ask, issued, grant_type="client_credentials")
    command = RotateClientSecret(id=first.client.id, overlap_s=0)
    third = await ada(clients.rotate_client_secret, command)
    for ended in (first, second):
        asked = token(ask, ended, grant_type="client_credentials")
        await refused(asked, "invalid_client", ClientRefused)
    assert await token(ask, third, grant_type="client_credentials")


async def test_a_client_acts_for_itself_within_its_own_scopes(ask):
    ada = await person(ask, "ada")
    issued = await registered(ada, grants=("client_credentials",), redirect_uris=())
    given = await token(ask, issued, grant_type="client_credentials")
    found = await resolve(ask, given)
    assert (found.id, found.kind, found.roles) == (issued.client.id, "client", ("developer",))
    assert found.scopes == issued.client.scopes
    assert given.refresh_token is None
    less = await token(ask, issued, grant_type="client_credentials", scope="goals:read")
    assert (await resolve(ask, less)).scopes == ("goals:read",)
    for beyond in ("users:read", "goals:read users:read", "agents:fly"):
        asked = token(ask, issued, grant_type="client_credentials", scope=beyond)
        await refused(asked, "invalid_scope")


async def test_a_client_may_never_more_than_its_maker(ask):
    ada = await person(ask, "ada", "developer")
    own = {"grants": ("client_credentials",), "redirect_uris": ()}
    for beyond in (
        {"roles": ("admin",), "scopes": ("users:grant",)}, {"scopes": ("agents:control",),
         "roles": ("operator",)},
    ):  # fmt: skip
        with pytest.raises(BeyondOwnRights):
            await registered(ada, **own | beyond)
    issued = await registered(ada, **own)
    given = await token(ask, issued, grant_type="client_credentials")
    demoted = UpdateUser(id=ada.principal.id, version=1, name="Ada", roles=("viewer",))
    await ask(users.update_user, demoted)
    assert (await resolve(ask, given)).scope_of("agents:create") == "none"
    await ask(users.disable_user, DisableUser(id=ada.principal.id))
    with pytest.raises(Unauthenticated):
        await resolve(ask, given)


async def test_a_client_does_only_what_it_was_registered_for(ask):
    ada = await person(ask, "ada")
    issued = await registered(ada, grants=("authorization_code",))
    asked = token(ask, issued, grant_type="client_credentials")
    await refused(asked, "unauthorized_client")
    given = await exchanged(ask, issued, (await consented(ada, issued.client))["code"])
    assert given.refresh_token is None
    itself = await registered(ada, grants=("client_credentials",), redirect_uris=())
    command = Decide(**request(itself.client), allow=True)
    await refused(ada(oauth.decide, command), "invalid_request")


async def test_a_client_that_is_changed_or_deleted_ends_its_sessions_and_codes(ask):
    ada = await person(ask, "ada")
    issued = await registered(ada)
    given = await exchanged(ask, issued, (await consented(ada, issued.client))["code"])
    pending = (await consented(ada, issued.client))["code"]
    command = UpdateClient(
        id=issued.client.id, version=1, name="Less", redirect_uris=(BACK,), scopes=("goals:read",)
    )
    changed = await ada(clients.update_client, command)
    assert (changed.version, changed.scopes) == (2, ("goals:read",))
    with pytest.raises(Unauthenticated):
        await resolve(ask, given)
    await refused(exchanged(ask, issued, pending), "invalid_grant")
    fields = {"scope": None}
    given = await exchanged(ask, issued, (await consented(ada, issued.client, **fields))["code"])
    assert given.scope == "goals:read"
    await ada(clients.delete_client, DeleteClient(id=issued.client.id))
    with pytest.raises(Unauthenticated):
        await resolve(ask, given)
    await refused(refresh(ask, issued, given), "invalid_client", ClientRefused)
    for move in (
        ada(clients.rotate_client_secret, RotateClientSecret(id=issued.client.id)),
        ada(clients.update_client, command.model_copy(update={"version": 3})),
    ):
        with pytest.raises(IllegalMove):
            await move
    assert (await ada(clients.clients, ListClients())).items == ()


async def test_clients_are_changed_only_by_their_owner_or_an_administrator(ask):
    ada, ben = await person(ask, "ada"), await person(ask, "ben")
    client = (await registered(ada)).client
    assert await ben(clients.client, GetClient(id=client.id)) == client
    for move in (
        ben(clients.rotate_client_secret, RotateClientSecret(id=client.id)),
        ben(clients.delete_client, DeleteClient(id=client.id)),
    ):
        with pytest.raises(NotFound):
            await move
    viewer = await person(ask, "eve", "viewer")
    with pytest.raises(Denied):
        await viewer(clients.clients, ListClients())
    with pytest.raises(Denied):
        await registered(viewer)
    assert await ask(clients.delete_client, DeleteClient(id=client.id))


async def test_a_secret_is_shown_once_also_under_the_same_key(ask):
    ada = await person(ask, "ada")
    command = RegisterClient(name="Reader", redirect_uris=(BACK,), scopes=("goals:read",))
    first = await ada(clients.register_client, command, key="once")
    assert first.secret.startswith("sc_")
    with pytest.raises(ClientSecretShown):
        await ada(clients.register_client, command, key="once")
    assert len((await ada(clients.clients, ListClients())).items) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"redirect_uris": ("http://client.example/",)}, {"redirect_uris": ("https://a/#f",)},
        {"redirect_uris": ("https://u:p@a/",)}, {"redirect_uris": ("javascript:alert(1)",)},
        {"redirect_uris": ("https:///x",)}, {"redirect_uris": ()}, {"scopes": ()},
        {"scopes": ("agents:fly",)}, {"grants": ("implicit",)}, {"grants": ("refresh_token",)},
        {"grants": ("client_credentials",), "redirect_uris": (), "confidential": False},
        {"redirect_uris": ("https://a\\@b/",)}, {"redirect_uris": ("https://a:99999/",)},
    ],
)  # fmt: skip
def test_a_client_with_nonsense_in_it_is_refused(wrong):
    fields = {"name": "Reader", "redirect_uris": (BACK,), "scopes": ("goals:read",)} | wrong
    with pytest.raises(ValidationError):
        RegisterClient(**fields)
