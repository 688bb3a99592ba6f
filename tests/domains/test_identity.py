"""Identity: API keys are issued, found, rotated and revoked."""

from datetime import timedelta

import pytest

from bus import credentials
from schemas import events
from schemas.events import QueryEvents, VerifyEvents
from schemas.identity import keys as identity
from schemas.identity import principals
from schemas.identity.keys import (
    ApiKey,
    BeyondOwnRights,
    GetKey,
    IssueKey,
    ListKeys,
    RevokeKey,
    RotateKey,
    SecretShown,
)
from schemas.identity.principals import ResolveKey
from schemas.problems import IllegalMove, NotFound, Unauthenticated
from tests.conftest import look

pytestmark = pytest.mark.usefixtures("platform")


async def resolve(ask, secret):
    """Whom a secret stands for."""
    prefix, plain = credentials.read_credential("key", secret)
    hashed = credentials.hash_secret(plain)
    command = ResolveKey(prefix=prefix, secret_hash=hashed)
    return await ask.as_edge(principals.resolve_key, command)


def as_issued(key):
    """The key without its uses."""
    return ApiKey.model_validate(key.model_dump(exclude={"uses", "last_used_at"}))


async def test_an_issued_key_stands_for_its_maker_within_its_scopes(ask_as):
    ada = ask_as("developer", "ada")
    issued = await ada(identity.issue_key, IssueKey(name="ci", scopes=("agents:read",)))
    found = (await resolve(ada, issued.secret)).principal
    assert (found.id, found.kind, found.roles) == ("ada", "key", ("developer",))
    assert found.scope_of("agents:read") == "all"
    assert found.scope_of("agents:create") == "none"


async def test_a_secret_is_in_no_event_and_in_no_table(ask, platform):
    issued = await ask(identity.issue_key, IssueKey(name="ci"))
    secret = issued.secret.split("_", 2)[2]
    rows = [
        *await look(platform, "SELECT payload::text AS text FROM mcp_documents.events"),
        *await look(platform, "SELECT s::text AS text FROM identity.key_secrets s"),
        *await look(platform, "SELECT reply AS text FROM ops.idempotency"),
        *await look(platform, "SELECT convert_from(body, 'UTF8') AS text FROM ops.outbox"),
    ]
    assert len(rows) > 1
    assert not [row for row in rows if secret in (row["text"] or "")]


async def test_nobody_issues_a_key_that_may_do_more(ask_as):
    with pytest.raises(BeyondOwnRights) as refused:
        await ask_as("viewer")(identity.issue_key, IssueKey(name="up", roles=("admin",)))
    assert "agents:delete" in refused.value.details["permissions"]


async def test_a_guessed_or_unknown_secret_stands_for_nobody(ask):
    issued = await ask(identity.issue_key, IssueKey(name="ci"))
    prefix, _ = credentials.read_credential("key", issued.secret)
    for guess in (ResolveKey(prefix=prefix, secret_hash="0" * 64),
                  ResolveKey(prefix="f" * 16, secret_hash="0" * 64)):  # fmt: skip
        with pytest.raises(Unauthenticated):
            await ask.as_edge(principals.resolve_key, guess)


async def test_during_a_rotation_both_secrets_are_good_and_then_only_the_new_one(ask):
    first = await ask(identity.issue_key, IssueKey(name="ci"))
    second = await ask(identity.rotate_key, RotateKey(id=first.key.id))
    old = await resolve(ask, first.secret)
    assert old.until is not None
    assert old.until <= second.key.rotated_at + timedelta(hours=1)
    assert (await resolve(ask, second.secret)).principal == old.principal
    third = await ask(identity.rotate_key, RotateKey(id=first.key.id, overlap_s=0))
    for ended in (first, second):
        with pytest.raises(Unauthenticated):
            await resolve(ask, ended.secret)
    assert (await resolve(ask, third.secret)).principal == old.principal


async def test_a_revoked_key_is_no_longer_good_and_cannot_be_rotated(ask):
    issued = await ask(identity.issue_key, IssueKey(name="ci"))
    ended = await ask(identity.revoke_key, RevokeKey(id=issued.key.id))
    assert ended.revoked_at is not None
    assert await ask(identity.revoke_key, RevokeKey(id=issued.key.id)) == ended
    with pytest.raises(Unauthenticated):
        await resolve(ask, issued.secret)
    with pytest.raises(IllegalMove):
        await ask(identity.rotate_key, RotateKey(id=issued.key.id))
    story = (await ask(events.query, QueryEvents(aggregate_id=issued.key.id))).items
    assert [event.type for event in story] == ["identity.key_issued", "identity.key_revoked"]
    assert (await ask(events.verify, VerifyEvents())).ok


async def test_under_one_idempotency_key_one_secret_is_made_and_shown_once(ask):
    issued = await ask(identity.issue_key, IssueKey(name="ci"), key="once")
    rotated = await ask(identity.rotate_key, RotateKey(id=issued.key.id), key="twice")
    for operation, command, key in (
        (identity.issue_key, IssueKey(name="ci"), "once"),
        (identity.rotate_key, RotateKey(id=issued.key.id), "twice"),
    ):
        with pytest.raises(SecretShown):
            await ask(operation, command, key=key)
    now = await ask(identity.key, GetKey(id=issued.key.id))
    assert as_issued(now) == rotated.key
    assert [key.name for key in (await ask(identity.keys, ListKeys())).items] == ["ci"]


async def test_a_developer_knows_only_of_own_keys(ask_as, ask):
    ada, ben = ask_as("developer", "ada"), ask_as("developer", "ben")
    hers = (await ada(identity.issue_key, IssueKey(name="hers"))).key
    assert as_issued(await ada(identity.key, GetKey(id=hers.id))) == hers
    assert hers.id not in {key.id for key in (await ben(identity.keys, ListKeys())).items}
    assert hers.id in {key.id for key in (await ask(identity.keys, ListKeys())).items}
    for operation, command in (
        (identity.key, GetKey(id=hers.id)),
        (identity.rotate_key, RotateKey(id=hers.id)),
        (identity.revoke_key, RevokeKey(id=hers.id)),
    ):
        with pytest.raises(NotFound):
            await ben(operation, command)
