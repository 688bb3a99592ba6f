"""A person allows, a code comes back: as it should go, and each way to bend it."""

import asyncio

import pytest

from schemas.identity import oauth, sessions, users
from schemas.identity.oauth import (
    ClientRefused,
    Decide,
    LookAtAuthorization,
    OAuthRefused,
)
from schemas.identity.sessions import ListSessions, SignOut
from schemas.identity.users import DisableUser, UpdateUser
from schemas.principal import Principal
from schemas.problems import Denied, Unauthenticated
from tests.conftest import look
from tests.domains.consenting import (
    BACK,
    challenge,
    claims_in,
    consented,
    exchanged,
    other_verifier,
    person,
    refused,
    registered,
    request,
    resolve,
    token,
)

pytestmark = pytest.mark.usefixtures("platform")


async def test_a_person_allows_and_the_client_acts_for_them_within_both_their_rights(ask):
    ada = await person(ask, "ada", "viewer")
    issued = await registered(await person(ask, "maker"))
    back = await consented(ada, issued.client, scope="agents:read agents:create")
    given = await exchanged(ask, issued, back["code"])
    found = await resolve(ask, given)
    assert (found.id, found.kind, found.scopes) == (ada.principal.id, "user", ("agents:read",))
    assert given.scope == "agents:read"  # a viewer creates nothing, so nothing of it was allowed
    assert claims_in(given.access_token)["client_id"] == issued.client.id
    assert given.refresh_token is not None


async def test_the_person_is_shown_who_asks_and_for_what_in_words(ask):
    ada = await person(ask, "ada")
    client = (await registered(await person(ask, "maker"))).client
    command = LookAtAuthorization(**request(client, scope="agents:read agents:create"))
    shown = await ada(oauth.authorization, command)
    assert (shown.client_name, shown.registered_by) == ("Reader", "maker")
    assert shown.comes_back_to == "client.example"
    assert [w.words for w in shown.wishes] == ["See all agents", "Create all agents"]


async def test_a_refusal_goes_back_to_the_client_with_its_state_and_our_name(ask, settings):
    ada = await person(ask, "ada")
    client = (await registered(ada)).client
    answer = await ada(oauth.decide, Decide(**request(client, state="x y"), allow=False))
    assert answer.location.startswith(BACK + "?error=access_denied")
    assert "state=x+y" in answer.location or "state=x%20y" in answer.location
    assert "iss=http%3A%2F%2Flocalhost%3A8009" in answer.location


async def test_the_issuer_comes_with_every_answer_against_mix_ups(ask, settings):
    ada = await person(ask, "ada")
    client = (await registered(ada)).client
    assert (await consented(ada, client))["iss"] == settings.public_url
    with pytest.raises(OAuthRefused) as wrong:
        await ada(oauth.authorization, LookAtAuthorization(**request(client, scope="agents:fly")))
    assert "iss=" in wrong.value.details["location"]


async def test_a_public_client_needs_only_its_verifier(ask):
    ada = await person(ask, "ada")
    issued = await registered(ada, confidential=False)
    assert issued.secret is None
    back = await consented(ada, issued.client)
    assert (await exchanged(ask, issued, back["code"])).access_token


async def test_secrets_codes_and_tokens_are_stored_nowhere(ask, platform):
    ada = await person(ask, "ada")
    issued = await registered(ada)
    back = await consented(ada, issued.client)
    given = await exchanged(ask, issued, back["code"])
    secret = [issued.secret, back["code"], given.access_token, given.refresh_token]
    texts = await look(
        platform,
        "SELECT payload::text AS text FROM mcp_documents.events"
        " UNION ALL SELECT coalesce(reply, '') FROM ops.idempotency"
        " UNION ALL SELECT convert_from(body, 'UTF8') FROM ops.outbox"
        " UNION ALL SELECT c::text FROM identity.authorization_codes c"
        " UNION ALL SELECT s::text FROM identity.client_secrets s"
        " UNION ALL SELECT r::text FROM identity.refresh_tokens r",
    )
    assert len(texts) > 5
    assert [row["text"] for row in texts for s in secret if s in row["text"]] == []


async def test_a_code_that_comes_again_is_refused_and_ends_what_it_gave(ask):
    ada = await person(ask, "ada")
    issued = await registered(ada)
    back = await consented(ada, issued.client)
    given = await exchanged(ask, issued, back["code"])
    await refused(exchanged(ask, issued, back["code"]), "invalid_grant")
    with pytest.raises(Unauthenticated):
        await resolve(ask, given)
    await refused(
        token(ask, issued, grant_type="refresh_token", refresh_token=given.refresh_token),
        "invalid_grant",
    )


async def test_of_many_who_exchange_one_code_at_once_at_most_one_is_served(ask):
    ada = await person(ask, "ada")
    issued = await registered(ada)
    back = await consented(ada, issued.client)
    tries = [exchanged(ask, issued, back["code"]) for _ in range(6)]
    done = await asyncio.gather(*tries, return_exceptions=True)
    served = [answer for answer in done if not isinstance(answer, BaseException)]
    assert len(served) == 1
    with pytest.raises(Unauthenticated):  # the others were a second use
        await resolve(ask, served[0])


async def test_a_code_of_another_client_is_refused_and_stays_good_for_its_own(ask):
    ada = await person(ask, "ada")
    issued, other = await registered(ada), await registered(ada, name="Other")
    back = await consented(ada, issued.client)
    await refused(exchanged(ask, other, back["code"]), "invalid_grant")
    assert await exchanged(ask, issued, back["code"])


async def test_a_code_is_good_for_a_minute(ask, platform):
    ada = await person(ask, "ada")
    issued = await registered(ada)
    back = await consented(ada, issued.client)
    [row] = await look(
        platform, "SELECT expires_at - now() AS left FROM identity.authorization_codes"
    )
    assert 0 < row["left"].total_seconds() <= 60
    await look(platform, "UPDATE identity.authorization_codes SET expires_at = now() RETURNING 1")
    await refused(exchanged(ask, issued, back["code"]), "invalid_grant")


WRONG_EXCHANGES = [
    ({"redirect_uri": BACK + "/"}, "invalid_grant"),
    ({"redirect_uri": None}, "invalid_grant"),
    ({"code_verifier": None}, "invalid_request"),
    ({"code_verifier": other_verifier()}, "invalid_grant"),
    ({"code_verifier": challenge()}, "invalid_grant"),  # as if the challenge were plain
    ({"code_verifier": "short"}, "invalid_request"),
    ({"code": "guess"}, "invalid_grant"),
    ({"grant_type": "password"}, "unsupported_grant_type"),
    ({"grant_type": None}, "unsupported_grant_type"),
]


@pytest.mark.parametrize("public", [True, False])
async def test_an_exchange_that_does_not_fit_is_refused_and_uses_nothing_up(ask, public):
    ada = await person(ask, "ada")
    issued = await registered(ada, confidential=not public)
    back = await consented(ada, issued.client)
    for wrong, error in WRONG_EXCHANGES:
        await refused(exchanged(ask, issued, **{"code": back["code"]} | wrong), error)
    assert await exchanged(ask, issued, back["code"])


WRONG_REQUESTS = [
    ({"code_challenge": None}, "invalid_request"),
    ({"code_challenge_method": "plain"}, "invalid_request"),
    ({"code_challenge_method": None}, "invalid_request"),
    ({"code_challenge": "short"}, "invalid_request"),
    ({"scope": "agents:fly"}, "invalid_scope"),
    ({"scope": "users:grant"}, "invalid_scope"),
    ({"response_type": "token"}, "unsupported_response_type"),
    ({"response_type": None}, "unsupported_response_type"),
]


async def test_a_request_that_is_wrong_goes_back_to_its_client(ask):
    ada = await person(ask, "ada")
    client = (await registered(ada)).client
    for wrong, error in WRONG_REQUESTS:
        for operation, command in (
            (oauth.authorization, LookAtAuthorization(**request(client, **wrong))),
            (oauth.decide, Decide(**request(client, **wrong), allow=True)),
        ):
            problem = await refused(ada(operation, command), error)
            assert problem.details["location"].startswith(BACK + "?error=" + error)


NOT_HERS = [
    "https://client.example/back/", "https://client.example/back?x=1", "https://evil.example/back",
    "https://client.example.evil.example/back", "http://client.example/back",
    "https://client.example:444/back", "https://CLIENT.example/back",
    "https://client.example@evil.example/back", "//client.example/back", "/back",
    "javascript:alert(1)", "https://client.example/back#f", "https://client.example/%62ack",
]  # fmt: skip


async def test_nobody_is_sent_to_an_address_that_is_not_the_clients(ask):
    ada = await person(ask, "ada")
    client = (await registered(ada)).client
    for uri in NOT_HERS:
        command = Decide(**request(client, redirect_uri=uri), allow=True)
        problem = await refused(ada(oauth.decide, command), "invalid_request")
        assert "location" not in problem.details, uri


async def test_an_unknown_client_sends_nobody_anywhere(ask):
    ada = await person(ask, "ada")
    client = (await registered(ada)).client
    for unknown in ("x", "00000000-0000-0000-0000-000000000000", "' OR 1=1 --", ""):
        command = LookAtAuthorization(**request(client, client_id=unknown))
        with pytest.raises((OAuthRefused, ClientRefused)) as problem:
            await ada(oauth.authorization, command)
        assert "location" not in problem.value.details


async def test_a_program_on_the_persons_own_machine_may_choose_its_port(ask):
    ada = await person(ask, "ada")
    back = "http://127.0.0.1/done"
    issued = await registered(ada, confidential=False, redirect_uris=(back,))
    uri = "http://127.0.0.1:53211/done"
    code = (await consented(ada, issued.client, redirect_uri=uri))["code"]
    await refused(exchanged(ask, issued, code, redirect_uri=back), "invalid_grant")
    assert await exchanged(ask, issued, code, redirect_uri=uri)
    for other in ("http://localhost:5/done", "http://127.0.0.2:5/done", "http://127.0.0.1:5/do",
                  "http://x@127.0.0.1:5/done", "http://127.0.0.1:5/done#f"):  # fmt: skip
        command = Decide(**request(issued.client, redirect_uri=other), allow=True)
        await refused(ada(oauth.decide, command), "invalid_request")


async def test_only_a_person_in_a_browser_decides(ask):
    ada = await person(ask, "ada")
    issued = await registered(ada)
    back = await consented(ada, issued.client)
    given = await exchanged(ask, issued, back["code"])
    with_token = ask.acting_as(await resolve(ask, given))
    for asking in (with_token, ask, ask.acting_as(Principal(id=ada.principal.id, kind="user"))):
        with pytest.raises(Denied):
            await asking(oauth.decide, Decide(**request(issued.client), allow=True))


async def test_a_token_given_for_less_does_not_sign_its_person_out_everywhere(ask):
    ada = await person(ask, "ada")
    issued = await registered(ada)
    given = await exchanged(ask, issued, (await consented(ada, issued.client))["code"])
    with_token = ask.acting_as(await resolve(ask, given))
    assert (await with_token(sessions.sign_out, SignOut(everywhere=True))).sessions == 1
    assert len((await ada(sessions.sessions, ListSessions())).items) == 1  # the browser's


async def test_a_person_who_may_nothing_of_it_cannot_allow_it(ask):
    ada = await person(ask, "ada", "viewer")
    issued = await registered(await person(ask, "maker"), scopes=("agents:create",))
    command = Decide(**request(issued.client, scope="agents:create"), allow=True)
    await refused(ada(oauth.decide, command), "invalid_scope")
    await refused(ada(oauth.decide, command.model_copy(update={"scope": None})), "invalid_scope")


async def test_a_person_who_loses_a_role_takes_it_from_the_clients_too(ask):
    ada = await person(ask, "ada", "developer")
    issued = await registered(ada)
    back = await consented(ada, issued.client, scope="agents:read agents:create")
    given = await exchanged(ask, issued, back["code"])
    assert (await resolve(ask, given)).scope_of("agents:create") != "none"
    command = UpdateUser(id=ada.principal.id, version=1, name="Ada", roles=("viewer",))
    await ask(users.update_user, command)
    assert (await resolve(ask, given)).scope_of("agents:create") == "none"
    await ask(users.disable_user, DisableUser(id=ada.principal.id))
    with pytest.raises(Unauthenticated):
        await resolve(ask, given)


async def test_a_person_who_was_disabled_meanwhile_gets_no_token(ask):
    ada = await person(ask, "ada")
    issued = await registered(await person(ask, "maker"))
    back = await consented(ada, issued.client)
    await ask(users.disable_user, DisableUser(id=ada.principal.id))
    await refused(exchanged(ask, issued, back["code"]), "invalid_grant")
