"""Kept secrets: sealed at rest, out of no door, read by layers only, and through a new master key."""

import asyncio
import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus import rewrap, sealing
from bus.__main__ import main
from bus.sealing import SealBroken
from handlers.vault.operations import PLACE
from schemas import vault
from schemas.events import QueryEvents, query
from schemas.principal import Principal
from schemas.problems import Denied, NotFound
from schemas.vault import DeleteSecret, ListSecrets, PutSecret, ReadSecret
from tests.conftest import Asker, look

VALUE = "sk-of-a-provider-9f3b"


@pytest.fixture
def layer(client, ask_as):
    """Ask as a layer does for its own work."""
    made = ask_as("admin")
    return Asker(client, made._signer, Principal(id="models", kind="service", roles=("admin",)))


async def put(ask, name="openai", value=VALUE):
    return await ask(vault.put, PutSecret(name=name, value=value))


async def test_a_layer_reads_what_was_put(platform, ask, layer):
    kept = await put(ask)
    assert (kept.version, kept.name, kept.updated_by) == (1, "openai", "admin")
    assert (await layer(vault.read, ReadSecret(name="openai"))).value == VALUE


@pytest.mark.parametrize("kind", ["user", "key", "agent"])
async def test_nobody_but_a_layer_reads_a_value_whatever_the_role(platform, ask, client, kind):
    await put(ask)
    person = Asker(client, ask._signer, Principal(id="ada", kind=kind, roles=("admin",)))
    with pytest.raises(Denied):
        await person(vault.read, ReadSecret(name="openai"))


@pytest.mark.parametrize("role", ["developer", "operator", "viewer"])
async def test_only_an_admin_may_keep_secrets(platform, ask_as, role):
    other = ask_as(role)
    for operation, command in (
        (vault.put, PutSecret(name="a", value="b")),
        (vault.listing, ListSecrets()),
        (vault.delete, DeleteSecret(name="a")),
        (vault.read, ReadSecret(name="a")),
    ):
        with pytest.raises(Denied):
            await other(operation, command)


async def test_another_value_replaces_the_first_and_the_same_one_changes_nothing(
    platform, ask, layer
):
    await put(ask)
    assert (await put(ask)).version == 1
    assert (await put(ask, value="other")).version == 2
    assert (await layer(vault.read, ReadSecret(name="openai"))).value == "other"


async def test_two_who_put_at_once_both_succeed(platform, ask, layer):
    done = await asyncio.gather(*(put(ask, value=f"v{n}") for n in range(8)))
    assert sorted(secret.version for secret in done) == list(range(1, 9))
    assert len({secret.id for secret in done}) == 1


async def test_a_deleted_secret_is_gone_and_may_come_back(platform, ask, layer):
    await put(ask)
    gone = await ask(vault.delete, DeleteSecret(name="openai"))
    assert gone.deleted_at is not None
    with pytest.raises(NotFound):
        await layer(vault.read, ReadSecret(name="openai"))
    with pytest.raises(NotFound):
        await ask(vault.delete, DeleteSecret(name="openai"))
    assert (await ask(vault.listing, ListSecrets())).items == ()
    assert await look(platform, "SELECT 1 FROM vault.sealed") == []
    assert (await put(ask, value="back")).version == 3
    assert (await layer(vault.read, ReadSecret(name="openai"))).value == "back"


async def test_the_list_has_names_and_no_values(platform, ask):
    for number in range(3):
        await put(ask, name=f"secret-{number}", value=VALUE)
    page = await ask(vault.listing, ListSecrets(limit=2))
    more = await ask(vault.listing, ListSecrets(limit=2, cursor=page.next))
    assert [secret.name for secret in (*page.items, *more.items)] == [
        "secret-2", "secret-1", "secret-0",
    ]  # fmt: skip
    assert VALUE not in page.model_dump_json()


async def test_the_value_is_in_no_event_and_no_stored_answer(platform, ask):
    await ask(vault.put, PutSecret(name="openai", value=VALUE), key="once")
    await ask(vault.delete, DeleteSecret(name="openai"), key="gone")
    events = await ask(query, QueryEvents(type="vault.secret_stored"))
    assert len(events.items) == 1
    assert VALUE not in events.model_dump_json()
    for table in ("mcp_documents.events", "ops.outbox", "ops.idempotency", "vault.sealed"):
        assert VALUE not in str(await look(platform, f"SELECT t::text FROM {table} t"))


async def test_sealed_values_that_change_places_do_not_open(platform, ask, layer):
    await put(ask, name="one", value="first")
    await put(ask, name="two", value="second")
    await look(
        platform,
        """
        UPDATE vault.sealed a SET sealed = b.sealed FROM vault.sealed b
        WHERE a.secret_id <> b.secret_id
        """,
    )
    rows = await look(platform, "SELECT secret_id, sealed FROM vault.sealed")
    for row in rows:
        with pytest.raises(SealBroken):
            platform.sealer.open_sealed(row["sealed"], PLACE + row["secret_id"])


def test_a_secret_never_shows_itself():
    command = PutSecret(name="openai", value=VALUE)
    assert VALUE not in repr(command) + str(command) + str(command.model_dump())
    assert VALUE in command.model_dump_json()


@given(st.text(min_size=1, max_size=100))
def test_any_text_travels_whole(text):
    sent = PutSecret(name="a", value=text).model_dump_json()
    assert PutSecret.model_validate_json(sent).value.get_secret_value() == text


@pytest.fixture
def command(settings, platform, monkeypatch, capsys):
    """`python -m bus rotate-master-key` on this test's installation."""
    monkeypatch.setenv("PORTAL_ENVIRONMENT", "development")
    monkeypatch.setenv("PORTAL_POSTGRES_URL", settings.postgres_url.get_secret_value())
    monkeypatch.setenv("PORTAL_SECRETS", str(settings.secrets))

    async def run(*words):
        monkeypatch.setattr("sys.argv", ["bus", "--json", "rotate-master-key", *words])
        return await asyncio.to_thread(main)

    return run


async def test_a_new_master_key_wraps_every_value_and_nothing_stops(
    platform, ask, layer, command, settings
):
    for number in range(5):
        await put(ask, name=f"secret-{number}", value=f"value-{number}")
    old = platform.sealer.newest
    path = settings.secrets / sealing.FILE

    async def read_all():
        names = [f"secret-{number}" for number in range(5)]
        read = await asyncio.gather(*(layer(vault.read, ReadSecret(name=n)) for n in names))
        return [answer.value for answer in read]

    assert await command() == 0
    values = [f"value-{number}" for number in range(5)]
    assert await read_all() == values
    rows = await look(platform, "SELECT sealed FROM vault.sealed")
    newest = sealing.read_keys(path.read_text()).newest
    assert {sealing.master_of(row["sealed"]) for row in rows} == {newest} != {old}
    with pytest.raises(SystemExit, match="wait until"):
        await command("--retire")
    minutes_ago = time.time() - 600
    os.utime(path, (minutes_ago, minutes_ago))
    assert await command("--retire") == 0
    assert list(sealing.read_keys(path.read_text()).masters) == [newest]
    assert await read_all() == values


async def test_a_value_sealed_under_the_old_key_meanwhile_is_wrapped_before_it_is_retired(
    platform, ask, layer, command, settings, monkeypatch
):
    path = settings.secrets / sealing.FILE
    rewrap.add_key(path)
    kept = await put(ask)  # this process has not read the file again
    old = await look(platform, "SELECT sealed FROM vault.sealed")
    assert sealing.master_of(old[0]["sealed"]) != sealing.read_keys(path.read_text()).newest
    os.utime(path, (0, 0))
    assert await command("--retire") == 0
    assert (await layer(vault.read, ReadSecret(name=kept.name))).value == VALUE


@pytest.mark.parametrize("column", rewrap.SEALED, ids=lambda c: c.table)
async def test_a_declared_column_of_sealed_values_is_there(platform, column):
    await look(platform, f"SELECT {column.id}, {column.column} FROM {column.table} LIMIT 1")
