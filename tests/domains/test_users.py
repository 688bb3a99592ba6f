"""Users sign in, are changed and disabled; sessions, refresh tokens and locks follow."""

import asyncio
from datetime import timedelta

import pytest

from bus import credentials
from bus.clock import Clock
from schemas.identity import principals, sessions, users
from schemas.identity.keys import IssueKey, issue_key
from schemas.identity.principals import ResolveSession, ResolveToken
from schemas.identity.sessions import (
    EndSession,
    ListSessions,
    Refresh,
    SignIn,
    SignOut,
    TokenReused,
    WrongPassword,
)
from schemas.identity.users import (
    CreateUser,
    DisableUser,
    EnableUser,
    LastAdmin,
    ListUsers,
    LoginTaken,
    SetPassword,
    SetUp,
    SetUpDone,
    UnlockUser,
    UpdateUser,
)
from schemas.principal import Principal
from schemas.problems import Expired, NotFound, TooManyRequests, Unauthenticated
from tests.conftest import look

# pragma: allowlist nextline secret
PASSWORD = "correct horse battery"
TOKEN = "a-set-up-token-of-this-test"

pytestmark = pytest.mark.usefixtures("platform")


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"bootstrap_setup_hash": credentials.hash_secret(TOKEN)})


async def add(ask, login, *roles):
    """A user who can sign in."""
    command = CreateUser(login=login, name=login, roles=roles or ("developer",), password=PASSWORD)
    return await ask(users.create_user, command)


async def sign_in(ask, login, password=PASSWORD, **how):
    return await ask.as_nobody(sessions.sign_in, SignIn(login=login, password=password, **how))


async def refresh(ask, token):
    return await ask.as_nobody(sessions.refresh, Refresh(refresh_token=token))


def themselves(ask, user, session=None):
    """Asking as this user, in this session."""
    shown = f"session/{session.id}" if session else None
    return ask.acting_as(Principal(id=user.id, kind="user", roles=user.roles, credential=shown))


async def resolve(ask, session):
    return await ask.as_edge(principals.resolve_token, ResolveToken(session_id=session.id))


async def test_the_set_up_token_creates_one_administrator_and_no_second(ask):
    command = SetUp(token=TOKEN, login="root", name="Root", password=PASSWORD)
    wrong = command.model_copy(update={"token": SetUp.model_validate(
        command.model_dump() | {"token": "x" * 30}).token})  # fmt: skip

    with pytest.raises(Unauthenticated):
        await ask.as_nobody(users.set_up, wrong)
    tries = [
        ask.as_nobody(users.set_up, command.model_copy(update={"login": f"root{n}"}))
        for n in range(4)
    ]
    done = await asyncio.gather(*tries, return_exceptions=True)

    [first] = [user for user in done if not isinstance(user, Exception)]
    assert first.roles == ("admin",)
    assert sum(isinstance(refused, SetUpDone) for refused in done) == 3
    assert not (await ask.as_nobody(users.set_up_state, users.AskSetUp())).needed


@pytest.mark.usefixtures("costly_passwords")
async def test_a_password_is_stored_as_argon2id_and_in_no_event(ask, platform):
    await add(ask, "ada")
    await sign_in(ask, "ada")
    [row] = await look(platform, "SELECT hash FROM identity.passwords")
    texts = [
        *await look(platform, "SELECT payload::text AS text FROM mcp_documents.events"),
        *await look(platform, "SELECT coalesce(reply, '') AS text FROM ops.idempotency"),
        *await look(platform, "SELECT convert_from(body, 'UTF8') AS text FROM ops.outbox"),
    ]
    assert row["hash"].startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert len(texts) > 1
    assert [t for t in texts if PASSWORD in t["text"] or "$argon2" in t["text"]] == []


async def test_a_login_is_given_once(ask):
    await add(ask, "ada")
    with pytest.raises(LoginTaken):
        await add(ask, "ada")


async def test_who_signs_in_gets_a_session_that_stands_for_them(ask):
    user = await add(ask, "ada", "operator")
    signed = await sign_in(ask, "ada")
    found = await resolve(ask, signed.session)
    assert (found.principal.id, found.principal.kind) == (user.id, "user")
    assert found.principal.roles == ("operator",)
    assert signed.tokens.access_token.count(".") == 2
    assert signed.cookie is None


async def test_a_browser_gets_a_cookie_instead_of_tokens(ask):
    user = await add(ask, "ada")
    signed = await sign_in(ask, "ada", browser=True)
    prefix, secret = credentials.read_credential("session", signed.cookie)
    command = ResolveSession(prefix=prefix, secret_hash=credentials.hash_secret(secret))
    found = await ask.as_edge(principals.resolve_session, command)
    assert found.principal.id == user.id
    assert signed.tokens is None
    assert signed.csrf == credentials.csrf_token(signed.cookie)


async def test_a_browser_session_that_was_not_used_for_an_hour_is_over(ask, platform):
    await add(ask, "ada")
    signed = await sign_in(ask, "ada", browser=True)
    prefix, secret = credentials.read_credential("session", signed.cookie)
    command = ResolveSession(prefix=prefix, secret_hash=credentials.hash_secret(secret))
    for idle, good in (("59 minutes", True), ("60 minutes", False)):
        await look(
            platform,
            "UPDATE identity.cookies SET used_at = now() - $1::text::interval RETURNING 1",
            idle,
        )
        if good:
            await ask.as_edge(principals.resolve_session, command)
        else:
            with pytest.raises(Unauthenticated):
                await ask.as_edge(principals.resolve_session, command)


async def test_a_wrong_password_and_an_unknown_login_are_answered_alike(ask):
    await add(ask, "ada")
    answers = []
    for login in ("ada", "nobody"):
        with pytest.raises(WrongPassword) as refused:
            await sign_in(ask, login, "not the password")
        answers.append((refused.value.message, refused.value.details))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("login", ["ada", "nobody"])
async def test_many_guesses_at_once_lock_a_login_whether_it_exists_or_not(ask, login):
    await add(ask, "ada")
    guesses = [sign_in(ask, login, f"guess {n} of many") for n in range(12)]
    done = await asyncio.gather(*guesses, return_exceptions=True)
    assert sum(isinstance(refused, WrongPassword) for refused in done) <= 5
    assert sum(isinstance(refused, TooManyRequests) for refused in done) >= 7
    with pytest.raises(TooManyRequests) as locked:
        await sign_in(ask, login)
    assert locked.value.details["retry_after_s"] > 0


async def test_an_administrator_unlocks_a_login(ask):
    user = await add(ask, "ada")
    for n in range(6):
        with pytest.raises((WrongPassword, TooManyRequests)):
            await sign_in(ask, "ada", f"guess number {n}")
    await ask(users.unlock_user, UnlockUser(id=user.id))
    assert (await sign_in(ask, "ada")).user == await ask(users.user, users.GetUser(id=user.id))


async def test_success_forgets_failures(ask, platform):
    await add(ask, "ada")
    for _ in range(3):
        with pytest.raises(WrongPassword):
            await sign_in(ask, "ada", "not the password")
        await sign_in(ask, "ada")
    assert await look(platform, "SELECT 1 FROM identity.attempts") == []


async def test_a_refresh_token_is_exchanged_for_the_next_pair(ask):
    await add(ask, "ada")
    first = (await sign_in(ask, "ada")).tokens
    second = await refresh(ask, first.refresh_token)
    third = await refresh(ask, second.refresh_token)
    assert len({first.refresh_token, second.refresh_token, third.refresh_token}) == 3
    assert second.access_token != first.access_token


async def test_fifty_tabs_that_refresh_at_once_all_get_the_same_successor(ask):
    await add(ask, "ada")
    signed = await sign_in(ask, "ada")
    pairs = await asyncio.gather(*(refresh(ask, signed.tokens.refresh_token) for _ in range(50)))
    [successor] = {pair.refresh_token for pair in pairs}
    assert await refresh(ask, successor)
    assert (await resolve(ask, signed.session)).principal.kind == "user"


async def test_a_stolen_refresh_token_used_later_ends_the_whole_family(ask, platform):
    await add(ask, "ada")
    signed = await sign_in(ask, "ada")
    stolen = signed.tokens.refresh_token
    newest = (await refresh(ask, stolen)).refresh_token
    await look(
        platform,
        "UPDATE identity.refresh_tokens SET used_at = used_at - interval '21 s'"
        " WHERE used_at IS NOT NULL RETURNING 1",
    )
    with pytest.raises(TokenReused):
        await refresh(ask, stolen)
    with pytest.raises(Expired):
        await refresh(ask, newest)
    with pytest.raises(Unauthenticated):
        await resolve(ask, signed.session)


async def test_a_family_ends_after_seven_days_however_often_it_was_refreshed(ask, platform):
    await add(ask, "ada")
    signed = await sign_in(ask, "ada")
    newest = (await refresh(ask, signed.tokens.refresh_token)).refresh_token
    assert signed.session.expires_at - signed.session.created_at == timedelta(days=7)
    await look(platform, "UPDATE identity.sessions SET expires_at = now() RETURNING 1")
    with pytest.raises(Expired):
        await refresh(ask, newest)


async def test_signing_out_everywhere_ends_every_session_of_the_user_and_no_other(ask):
    ada, _ = await add(ask, "ada"), await add(ask, "ben")
    hers = [await sign_in(ask, "ada") for _ in range(3)]
    his = await sign_in(ask, "ben")
    asking = themselves(ask, ada, hers[0].session)
    assert (await asking(sessions.sign_out, SignOut())).sessions == 1
    assert (await asking(sessions.sign_out, SignOut(everywhere=True))).sessions == 2
    for signed in hers:
        with pytest.raises(Unauthenticated):
            await resolve(ask, signed.session)
    assert await resolve(ask, his.session)


async def test_sessions_are_seen_and_ended_only_by_their_owner_or_an_administrator(ask):
    ada, ben = await add(ask, "ada"), await add(ask, "ben")
    hers = (await sign_in(ask, "ada")).session
    assert (await themselves(ask, ben)(sessions.sessions, ListSessions())).items == ()
    with pytest.raises(NotFound):
        await themselves(ask, ben)(sessions.end_session, EndSession(id=hers.id))
    [seen] = (await themselves(ask, ada)(sessions.sessions, ListSessions())).items
    assert seen == hers
    await ask(sessions.end_session, EndSession(id=hers.id))
    assert (await themselves(ask, ada)(sessions.sessions, ListSessions())).items == ()


async def test_a_disabled_user_keeps_no_session_and_no_key_and_cannot_sign_in(ask):
    user = await add(ask, "ada")
    signed = await sign_in(ask, "ada")
    issued = await themselves(ask, user)(issue_key, IssueKey(name="ci"))
    await ask(users.disable_user, DisableUser(id=user.id))
    prefix, secret = credentials.read_credential("key", issued.secret)
    command = principals.ResolveKey(prefix=prefix, secret_hash=credentials.hash_secret(secret))
    for asked in (
        resolve(ask, signed.session), ask.as_edge(principals.resolve_key, command),
        sign_in(ask, "ada"),
    ):  # fmt: skip
        with pytest.raises((Unauthenticated, WrongPassword)):
            await asked
    await ask(users.enable_user, EnableUser(id=user.id))
    assert await sign_in(ask, "ada")


async def test_a_key_never_may_more_than_its_owner_does_now(ask):
    user = await add(ask, "ada", "developer")
    issued = await themselves(ask, user)(issue_key, IssueKey(name="ci"))
    command = UpdateUser(id=user.id, version=user.version, name="Ada", roles=("viewer",))
    await ask(users.update_user, command)
    prefix, secret = credentials.read_credential("key", issued.secret)
    resolve_key = principals.ResolveKey(prefix=prefix, secret_hash=credentials.hash_secret(secret))
    found = (await ask.as_edge(principals.resolve_key, resolve_key)).principal
    assert found.roles == ("viewer",)
    assert found.scope_of("agents:create") == "none"


async def test_the_last_administrator_stays(ask):
    root = await add(ask, "root", "admin")
    demoted = UpdateUser(id=root.id, version=1, name="Root", roles=("viewer",))
    for operation, command in (
        (users.disable_user, DisableUser(id=root.id)), (users.update_user, demoted),
    ):  # fmt: skip
        with pytest.raises(LastAdmin):
            await ask(operation, command)
    await add(ask, "second", "admin")
    assert (await ask(users.update_user, demoted)).roles == ("viewer",)


async def test_of_two_administrators_who_disable_each_other_one_stays(ask):
    pair = [await add(ask, login, "admin") for login in ("one", "two")]
    done = await asyncio.gather(
        *(ask(users.disable_user, DisableUser(id=user.id)) for user in pair),
        return_exceptions=True,
    )
    assert sum(isinstance(refused, LastAdmin) for refused in done) == 1


async def test_a_new_password_needs_the_current_one_and_ends_other_sessions(ask):
    user = await add(ask, "ada")
    here, elsewhere = await sign_in(ask, "ada"), await sign_in(ask, "ada")
    asking = themselves(ask, user, here.session)
    with pytest.raises(Unauthenticated):
        await asking(users.set_password, SetPassword(id=user.id, new="another password"))
    command = SetPassword(id=user.id, current=PASSWORD, new="another password")
    await asking(users.set_password, command)
    assert await resolve(ask, here.session)
    with pytest.raises(Unauthenticated):
        await resolve(ask, elsewhere.session)
    with pytest.raises(WrongPassword):
        await sign_in(ask, "ada")
    assert await sign_in(ask, "ada", "another password")


async def test_guessing_the_current_password_locks_as_signing_in_does(ask):
    user = await add(ask, "ada")
    asking, refused = themselves(ask, user), []
    for n in range(7):
        guess = SetPassword(id=user.id, current=f"guess number {n}", new="another password")
        with pytest.raises((Unauthenticated, TooManyRequests)) as caught:
            await asking(users.set_password, guess)
        refused.append(caught.type)
    assert (refused[0], refused[-1]) == (Unauthenticated, TooManyRequests)
    with pytest.raises(TooManyRequests):
        await sign_in(ask, "ada")


async def test_nobody_but_an_administrator_changes_roles_or_sees_other_users(ask):
    ada, ben = await add(ask, "ada"), await add(ask, "ben")
    asking = themselves(ask, ada)
    promoted = UpdateUser(id=ada.id, version=1, name="Ada", roles=("admin",))
    with pytest.raises(users.RolesBeyondOwnRights):
        await asking(users.update_user, promoted)
    with pytest.raises(NotFound):
        await asking(users.user, users.GetUser(id=ben.id))
    assert [u.login for u in (await asking(users.users, ListUsers())).items] == ["ada"]
    renamed = UpdateUser(id=ada.id, version=1, name="Ada L.", roles=ada.roles)
    assert (await asking(users.update_user, renamed)).name == "Ada L."


async def test_two_who_refresh_within_the_replay_window_are_bound_to_the_same_session(ask):
    await add(ask, "ada")
    one, other = await sign_in(ask, "ada"), await sign_in(ask, "ada")
    first = await refresh(ask, one.tokens.refresh_token)
    second = await refresh(ask, other.tokens.refresh_token)
    assert first.refresh_token != second.refresh_token
    assert Clock().now() < one.session.expires_at
