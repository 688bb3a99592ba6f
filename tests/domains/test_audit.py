"""The audit log: written once, without gaps, never changed; refusals and identity events in it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from bus import audit as noting
from bus.audit import Auditor
from bus.clock import Clock
from bus.credentials import Signer
from bus.lifecycle import secrets_folder
from bus.secrets import SecretRead
from bus.service import own_context
from handlers.audit import reactions, service
from schemas import agents, audit
from schemas.agents import ListAgents
from schemas.audit import (
    HttpRequest,
    ListEntries,
    ListRequests,
    Noted,
    RecordAudit,
    VerifyAudit,
)
from schemas.identity import keys as identity
from schemas.identity.keys import IssueKey, RevokeKey
from schemas.principal import Principal
from schemas.problems import Denied, Unauthenticated
from tests.conftest import Asker, eventually, look
from tests.factories import create_agent

AT = datetime(2026, 11, 23, 7, tzinfo=UTC)


def noted(**fields: Any) -> Noted:
    return Noted(**{
        "at": AT, "door": "http", "actor": "ann", "via": None, "action": "agents.create",
        "resource": "agents", "resource_id": None, "decision": "allow", "reason": None,
        "permission": None, "policy": "p", "request_id": "r", "address": None, "credential": None,
        "details": {},
    } | fields)  # fmt: skip


def seen(**fields: Any) -> HttpRequest:
    return HttpRequest(**{
        "at": datetime.now(UTC), "request_id": "r", "method": "GET", "route": "/x", "path": "/x",
        "operation": "-", "status": 200, "ms": 1.5, "actor": "ann", "credential": "key:x",
        "address": "127.0.0.1", "decision": "allow", "reason": None,
    } | fields)  # fmt: skip


@pytest.fixture
def ask_part(client, settings) -> Asker:
    """Ask as a part of the platform."""
    signer = Signer("edge", secrets_folder(settings))
    return Asker(client, signer, Principal(id="edge", kind="service"))


@pytest.fixture
async def auditor(client, settings) -> AsyncIterator[Auditor]:
    """An auditor of another process."""
    made = Auditor(client, Signer("edge", secrets_folder(settings)), Clock(), "edge")
    made.start()
    yield made
    await made.close()


async def test_a_batch_is_written_and_listed(platform, ask, ask_part):
    batch = RecordAudit(
        requests=(seen(status=404, reason="ERR_001"), seen(actor="bob")),
        entries=(noted(), noted(actor="bob", decision="deny", reason="ERR_300")),
    )
    assert (await ask_part(audit.record, batch, key="one")).model_dump() == {
        "requests": 2, "entries": 2,
    }  # fmt: skip
    denied = await ask(audit.entries, ListEntries(decision="deny"))
    by_domain = await ask(audit.entries, ListEntries(action="agents"))
    missing = await ask(audit.requests, ListRequests(status=404))

    assert [e.actor for e in denied.items] == ["bob"]
    second, first = by_domain.items
    assert second.seq == first.seq + 1
    assert [r.reason for r in missing.items] == ["ERR_001"]
    assert (
        await ask(audit.entries, ListEntries(actor="ann", since=AT + timedelta(hours=1)))
    ).items == ()


async def test_pages_of_both_logs_neither_skip_nor_repeat(platform, ask, ask_part):
    batch = RecordAudit(
        requests=tuple(seen(path=f"/{n}") for n in range(5)),
        entries=tuple(noted(resource_id=str(n)) for n in range(5)),
    )
    await ask_part(audit.record, batch, key="pages")
    for operation, listing, name in (
        (audit.entries, ListEntries, "resource_id"),
        (audit.requests, ListRequests, "path"),
    ):
        found, cursor = [], None
        while True:
            page = await ask(operation, listing(actor="ann", limit=2, cursor=cursor))
            found += [getattr(item, name).strip("/") for item in page.items]
            cursor = page.next
            if cursor is None:
                break
        assert found == ["4", "3", "2", "1", "0"]


async def test_a_batch_that_is_sent_again_is_written_once(platform, ask, ask_part):
    batch = RecordAudit(requests=(seen(),), entries=(noted(),))
    for _ in range(3):
        await ask_part(audit.record, batch, key="the same")

    assert len((await ask(audit.entries, ListEntries(actor="ann"))).items) == 1
    assert len((await ask(audit.requests, ListRequests())).items) == 1


async def test_writers_at_the_same_time_make_one_chain_without_a_gap(platform, ask, ask_part):
    batch = RecordAudit(entries=tuple(noted() for _ in range(7)))
    await asyncio.gather(*(ask_part(audit.record, batch, key=f"b{n}") for n in range(12)))
    rows = await look(platform, "SELECT seq, actor FROM audit.entries ORDER BY seq")

    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
    assert sum(row["actor"] == "ann" for row in rows) == 84
    assert (await ask(audit.verify, VerifyAudit())).ok


@pytest.mark.parametrize("role", ["admin", "developer", "operator", "viewer"])
async def test_only_the_platforms_own_parts_may_write(platform, ask_as, role):
    with pytest.raises(Denied):
        await ask_as(role)(audit.record, RecordAudit(entries=(noted(),)), key="forged")


async def test_only_admins_and_operators_may_read(platform, ask_as):
    for role in ("admin", "operator"):
        assert (await ask_as(role)(audit.verify, VerifyAudit())).ok
    for role in ("developer", "viewer"):
        for operation, command in (
            (audit.entries, ListEntries()), (audit.requests, ListRequests()),
            (audit.verify, VerifyAudit()),
        ):  # fmt: skip
            with pytest.raises(Denied):
                await ask_as(role)(operation, command)


CHANGES = (
    "UPDATE audit.entries SET actor = 'mallory'",
    "DELETE FROM audit.entries",
    "TRUNCATE audit.entries",
)


@contextlib.asynccontextmanager
async def owner(database_url) -> AsyncIterator[Any]:
    """A connection of the database's owner."""
    connection = await asyncpg.connect(database_url)
    try:
        yield connection
    finally:
        await connection.close()


async def test_the_log_refuses_to_be_changed_by_privilege_and_by_trigger(
    platform, ask_part, database_url
):
    await ask_part(audit.record, RecordAudit(entries=(noted(),)), key="k")
    async with owner(database_url) as connection:
        for change in CHANGES:
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="denied"):
                await look(platform, change)
        await connection.execute("GRANT UPDATE, DELETE, TRUNCATE ON audit.entries TO CURRENT_USER")
        for change in CHANGES:
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
                await connection.execute(change)


TAMPERING = {
    "changed": ("UPDATE audit.entries SET actor = 'mallory' WHERE seq = {0} + 3", 3),
    "left out": ("DELETE FROM audit.entries WHERE seq = {0} + 4", 4),
    "cut off": ("DELETE FROM audit.entries WHERE seq > {0} + 4", 5),
    "swapped": (
        "UPDATE audit.entries SET seq = CASE seq WHEN {0} + 2 THEN {0} + 3 ELSE {0} + 2 END "
        "WHERE seq IN ({0} + 2, {0} + 3)",
        2,
    ),
    "decision turned": ("UPDATE audit.entries SET decision = 'allow' WHERE seq = {0} + 5", 5),
}  # fmt: skip


@pytest.mark.parametrize(("change", "broken_at"), TAMPERING.values(), ids=TAMPERING)
async def test_what_the_owner_of_the_database_changes_is_found(
    platform, ask, ask_part, database_url, change, broken_at
):
    entries = tuple(noted(resource_id=str(n), decision="deny") for n in range(6))
    await ask_part(audit.record, RecordAudit(entries=entries), key="k")
    [row] = await look(
        platform, "SELECT min(seq) - 1 AS before FROM audit.entries WHERE actor = 'ann'"
    )
    async with owner(database_url) as connection:
        await connection.execute("ALTER TABLE audit.entries DISABLE TRIGGER USER")
        await connection.execute("GRANT UPDATE, DELETE ON audit.entries TO CURRENT_USER")
        if "CASE" in change:
            await connection.execute("ALTER TABLE audit.entries DROP CONSTRAINT entries_pkey")
        await connection.execute(change.format(row["before"]))
    verdict = await ask(audit.verify, VerifyAudit())

    assert (verdict.ok, verdict.broken_at) == (False, row["before"] + broken_at)
    assert verdict.why


async def test_a_refusal_on_the_bus_is_noted_whoever_sent_it(platform, ask, ask_as, client):
    with pytest.raises(Denied):
        await ask_as("viewer", "eve")(agents.create, create_agent())
    with pytest.raises(Unauthenticated):
        await client.ask(agents.listing, ListAgents(), ask.how().__class__("", ask.how().origin))

    async def both():
        found = (await ask(audit.entries, ListEntries(decision="deny"))).items
        return found if len(found) == 2 else None

    nobody, eve = await eventually(both)
    assert (eve.door, eve.actor, eve.action, eve.reason, eve.permission) == (
        "bus", "eve", "agents.create", "ERR_300", "agents:create",
    )  # fmt: skip
    assert (nobody.actor, nobody.action, nobody.reason) == ("-", "agents.list", "ERR_200")


async def test_what_happens_to_keys_is_noted_with_who_did_it_and_without_a_secret(
    platform, ask, ask_as
):
    issued = await ask_as("admin", "ann")(identity.issue_key, IssueKey(name="ci"))
    await ask_as("admin", "bob")(identity.revoke_key, RevokeKey(id=issued.key.id))

    async def both():
        found = (await ask(audit.entries, ListEntries(action="identity"))).items
        keys = [entry for entry in found if entry.action.startswith("identity.key_")]
        return keys if len(keys) == 2 else None

    found = {entry.action: entry for entry in await eventually(both)}
    assert found["identity.key_issued"].actor == "ann"
    assert found["identity.key_revoked"].actor == "bob"
    assert {e.resource_id for e in found.values()} == {issued.key.id}
    [whole] = await look(platform, "SELECT string_agg(e::text, '') AS log FROM audit.entries e")
    assert issued.secret.split("_", 2)[2] not in whole["log"]


async def test_notes_reach_the_log_within_a_second_or_so(platform, ask, auditor):
    auditor.request(seen().model_dump())
    auditor.entry(noted().model_dump())

    async def there():
        return (await ask(audit.entries, ListEntries(actor="ann"))).items

    assert await eventually(there, 5)
    assert len(auditor) == 0


async def test_notes_wait_for_a_bus_that_is_away_and_are_written_once(
    platform, ask, auditor, bus_server
):
    bus_server.kill()
    for n in range(1200):
        auditor.entry(noted(resource_id=str(n)).model_dump())
    bus_server.start()

    async def there():
        with contextlib.suppress(Exception):
            [row] = await look(
                platform,
                "SELECT count(*), count(DISTINCT resource_id) AS d FROM audit.entries WHERE actor = 'ann'",
            )
            return (row["count"], row["d"]) == (1200, 1200)

    assert await eventually(there, 30)


async def test_the_oldest_requests_go_first_and_decisions_last(client, settings, bus_ready):
    signer = Signer("edge", secrets_folder(settings))
    auditor = Auditor(client, signer, Clock(), "edge")  # not started: nobody takes anything
    for n in range(noting.WAITING_MAX):
        auditor.request({"n": n})
    for n in range(noting.WAITING_MAX):
        auditor.entry({"n": n})
    assert (len(auditor._requests), len(auditor._entries)) == (0, noting.WAITING_MAX)
    auditor.entry({"n": "last"})

    assert auditor._entries[0] == {"n": 1}
    assert auditor._entries[-1] == {"n": "last"}


async def test_a_batch_that_can_never_be_written_does_not_hold_up_the_next(platform, ask, auditor):
    auditor.entry({"not": "an entry"})
    await auditor.flush()
    auditor.entry(noted(actor="after").model_dump())
    await auditor.flush()

    assert len((await ask(audit.entries, ListEntries(actor="after"))).items) == 1


async def test_old_days_of_the_request_log_are_dropped_as_a_whole(platform, ask_part, database_url):
    old = datetime.now(UTC) - timedelta(days=40)
    async with owner(database_url) as connection:
        await connection.execute("SELECT audit.add_day($1::date)", old.date())
    late = old - timedelta(days=3)  # a day without a partition: kept in the default one
    requests = (seen(at=old), seen(at=late), seen())
    await ask_part(audit.record, RecordAudit(requests=requests), key="k")
    await reactions.turn_pages(own_context(service, platform))
    rows = await look(platform, "SELECT at FROM audit.api_requests")
    partitions = await look(
        platform, "SELECT 1 FROM pg_class WHERE relname = $1", f"api_requests_{old:%Y_%m_%d}"
    )

    assert [row["at"].date() for row in rows] == [datetime.now(UTC).date()]
    assert partitions == []


async def test_a_secret_that_a_process_reads_is_noted_by_its_name_alone(platform, ask, auditor):
    auditor.secret(SecretRead("postgres_url", "files", datetime.now(UTC)))

    async def there():
        return (await ask(audit.entries, ListEntries(action="secret"))).items

    [entry] = await eventually(there)
    assert (entry.actor, entry.resource_id, entry.details) == (
        "edge", "postgres_url", {"provider": "files"},
    )  # fmt: skip
