"""What the edge tells the audit log: requests, refusals, changes, sockets and streams; no secrets."""

import asyncio

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from edge.noting import credential_of, shown
from schemas import audit
from schemas.audit import ListEntries, ListRequests
from tests.conftest import eventually

API = "/api/v1"


def entries(ask, count, **wanted):
    """At least so many entries that fit, newest first."""

    async def there():
        found = (await ask(audit.entries, ListEntries(limit=200))).items
        fitting = [e for e in found if all(getattr(e, k) == v for k, v in wanted.items())]
        return fitting if len(fitting) >= count else None

    return eventually(there)


async def test_every_finished_request_is_a_line_without_query_and_credential(
    ask, http, anonymous, admin_key
):
    secret = admin_key.text.split("_", 2)[2]
    await http.get("/agents?limit=3", headers={"x-request-id": "request-of-mine"})
    await anonymous.get(f"{API}/{admin_key.text}?key={admin_key.text}")
    await anonymous.get("/health/live")

    async def there():
        found = (await ask(audit.requests, ListRequests(limit=200))).items
        return found if len(found) >= 3 else None

    lines = {line.operation: line for line in await eventually(there)}
    listed, unknown, health = lines["agents.list"], lines["-"], lines["health"]
    assert (listed.route, listed.path, listed.status) == (f"{API}/agents", f"{API}/agents", 200)
    assert listed.actor == "admin"
    assert listed.credential.startswith("key/")
    assert (listed.request_id, listed.decision, listed.reason) == ("request-of-mine", "allow", None)
    assert (unknown.status, unknown.decision, unknown.reason) == (401, "deny", "ERR_200")
    assert unknown.path == f"{API}/sp_{admin_key.id}_[redacted]"
    assert (health.actor, health.decision) == ("-", "allow")
    assert secret not in "".join(line.model_dump_json() for line in lines.values())


async def test_a_refusal_and_a_change_are_entries_and_a_read_is_none(ask, http, anonymous, key_of):
    viewer = {"x-api-key": await key_of("viewer")}
    made = await http.post("/agents", json={"name": "noted-1"})
    await http.get(f"/agents/{made.json()['id']}")
    await http.post(f"/agents/{made.json()['id']}/suspend", json={})
    await anonymous.post(f"{API}/agents", json={"name": "x"}, headers=viewer)
    await anonymous.get(f"{API}/agents")

    nobody, denied, suspended, created = await entries(ask, 4, door="http")
    assert (created.action, created.actor, created.decision) == ("agents.create", "admin", "allow")
    assert (created.details["status"], created.permission) == (201, "agents:create")
    assert (suspended.action, suspended.resource_id) == ("agents.suspend", made.json()["id"])
    assert (denied.action, denied.actor, denied.reason) == ("agents.create", "viewer", "ERR_300")
    assert denied.credential.startswith("key/")
    assert (nobody.action, nobody.actor, nobody.reason) == ("agents.list", "-", "ERR_200")
    assert nobody.address == "127.0.0.1"


async def test_sockets_are_noted_when_opened_refused_denied_and_closed_for_their_rights(
    ask, http, watch, key_of
):
    with pytest.raises((InvalidStatus, ConnectionClosed)):
        async with watch(origin="http://evil.example"):
            pass
    with pytest.raises(ConnectionClosed):
        async with watch(additional_headers={"x-api-key": "sp_nonsense"}) as watcher:
            await watcher.next("hello")
    issued = (await http.post("/api-keys", json={"name": "w", "scopes": ["agents:read"]})).json()
    async with watch(additional_headers={"x-api-key": issued["secret"]}) as watcher:
        await watcher.next("hello")
        await watcher.send(op="subscribe", topics=["goals.progress"])
        await watcher.next("error")
        await http.delete(f"/api-keys/{issued['key']['id']}")
        with pytest.raises(ConnectionClosed):
            await watcher.next("never")

    closed, denied, opened, unknown, foreign = await entries(ask, 5, door="socket")
    assert [e.decision for e in (closed, denied, opened, unknown, foreign)] == [
        "deny", "deny", "allow", "deny", "deny",
    ]  # fmt: skip
    assert (foreign.action, foreign.details) == ("socket.open", {"why": "foreign origin"})
    assert (unknown.action, unknown.reason, unknown.actor) == ("socket.open", "4401", "-")
    assert (opened.action, opened.actor) == ("socket.open", "admin")
    assert (denied.action, denied.permission) == ("socket.subscribe", None)
    assert denied.details == {"permission": "goals:read", "topic": "goals.progress"}
    assert (closed.action, closed.reason) == ("socket.close", "4401")


async def test_event_streams_are_noted_when_opened_and_when_their_key_ends(ask, http, anonymous):
    issued = (await http.post("/api-keys", json={"name": "s", "scopes": ["events:read"]})).json()
    headers = {"x-api-key": issued["secret"]}
    async with anonymous.stream("GET", f"{API}/events/stream", headers=headers) as stream:
        lines = stream.aiter_lines()
        assert await anext(lines) == "event: hello"
        await http.delete(f"/api-keys/{issued['key']['id']}")
        async with asyncio.timeout(10):
            async for _ in lines:
                pass

    closed, opened = await entries(ask, 2, resource="stream")
    assert (opened.action, opened.decision) == ("stream.open", "allow")
    assert (closed.action, closed.decision) == ("stream.close", "deny")


async def test_notes_that_wait_when_the_edge_ends_are_sent_before_it_does(ask, edge, http):
    await http.post("/agents", json={"name": "last-words"})
    await edge.edge.auditor.close()
    found = (await ask(audit.entries, ListEntries(action="agents.create"))).items

    assert len(found) == 1
    assert len(edge.edge.auditor) == 0


def test_a_path_is_shown_in_one_line_of_bounded_length():
    assert shown(b"/a%0ab") == "/a%0ab"
    assert shown(b"/\x1b[31m\xff").isprintable()
    assert len(shown(b"/" + b"a" * 9_000)) == 512


async def test_a_credential_is_named_by_its_public_part(http: httpx2.AsyncClient, admin_key):
    class Sent:
        credential = "-"
        headers = {b"authorization": b"Bearer " + admin_key.text.encode()}

    assert credential_of(Sent()) == f"key:{admin_key.id}"
    Sent.headers = {b"authorization": b"Bearer eyJhbGciOi.x.y"}
    assert credential_of(Sent()) == "unknown"
    Sent.headers = {}
    assert credential_of(Sent()) == "-"
