"""Programs of others on the bus: what an API key may, its credentials may; revoked means gone."""

import asyncio
import json
from contextlib import asynccontextmanager

import asyncpg
import nats
import pytest

from bus import envelope
from schemas import catalogue, credentials, events
from schemas.credentials import CreateCredential, ListCredentials, RevokeCredential
from schemas.events import ReplayEvents
from schemas.identity import grants, keys
from schemas.identity.grants import Give
from schemas.identity.keys import IssueKey, RevokeKey
from schemas.principal import ROLES, Principal
from schemas.problems import Denied, NotFound
from tests.conftest import eventually
from tests.security import matrix, secured_bus
from tests.security.secured_bus import (  # noqa: F401
    bus_ready,
    bus_server,
    client,
    edge,
    turned_away,
)
from tests.servers import free_port

pytestmark = pytest.mark.usefixtures("platform", "edge")


@pytest.fixture
def settings(settings, bus_server):  # noqa: F811
    return secured_bus.of_handlers(settings, bus_server).model_copy(
        update={"edge_port": free_port()}
    )


@pytest.fixture
def issue(ask):
    """Bus credentials for a fresh key with these roles and scopes."""

    async def make(roles=("viewer",), scopes=(), asker=ask):
        key = await asker(keys.issue_key, IssueKey(name="k", roles=roles, scopes=scopes))
        command = CreateCredential(for_key=key.key.id, name="shop")
        return await asker(credentials.create, command)

    return make


class Guest:
    """Plain nats-py with a credential."""

    def __init__(self, issued, connection, refused, closed):
        self.id, self.connection, self.refused, self.closed = (
            issued.user, connection, refused, closed,
        )  # fmt: skip

    async def ask(self, name, body=b"{}", **how):
        """The answer of an operation, as JSON; with its error code."""
        answer = await self.connection.request(f"api.{self.id}.{name}", body, timeout=10, **how)
        return (answer.headers or {}).get(envelope.ERROR), json.loads(answer.data)

    async def is_refused(self, act, subject):
        """Whether the server refuses this."""
        await act(subject)
        await eventually(lambda: self._told(subject))

    async def _told(self, subject):
        return any(f'"{subject.lower()}"' in error for error in self.refused)


@pytest.fixture
async def come_in(bus_server):  # noqa: F811
    @asynccontextmanager
    async def coming(issued):
        refused, closed = [], asyncio.Event()

        async def remember(error):
            refused.append(str(error))

        async def gone():
            closed.set()

        connection = await nats.connect(
            bus_server.url, user=issued.user, password=issued.password, error_cb=remember,
            inbox_prefix=issued.inbox_prefix, allow_reconnect=False, disconnected_cb=gone,
        )  # fmt: skip
        try:
            yield Guest(issued, connection, refused, closed)
        finally:
            await connection.close()

    return coming


async def test_it_calls_what_its_key_may_and_acts_as_its_owner(issue, come_in):
    async with come_in(await issue(("developer",))) as guest:
        code, me = await guest.ask("identity.me")
        assert (code, me["id"], me["roles"]) == (None, "admin", ["developer"])
        body = json.dumps({"name": "a"}).encode()
        made = [
            await guest.ask("agents.create", body, headers={envelope.IDEMPOTENCY_KEY: "once"})
            for _ in range(2)
        ]
        assert made[0] == made[1]
        code, found = await guest.ask("agents.list")
        assert code is None
        assert made[0][1]["id"] in [agent["id"] for agent in found["items"]]
        assert (await guest.ask("agents.get", b"{"))[0] == "ERR_100"
        assert (await guest.ask("documents.attach", b'{"name": "x", "uploaded": {}}'))[
            0
        ] == "ERR_100"


async def test_it_is_refused_every_operation_that_its_key_may_not_call(issue, come_in):
    issued = await issue()
    viewer = Principal(id="x", kind="key", roles=("viewer",))
    denied = [
        o
        for o in catalogue.operations()
        if o.route is None or o.public or viewer.scope_of(o.may) == "none"
    ]
    async with come_in(issued) as guest:
        for operation in denied:
            subject = f"api.{issued.user}.{operation.name}"
            await guest.is_refused(guest.connection.publish, subject)
        assert (await guest.ask("agents.list"))[0] is None
    assert len(denied) > len(catalogue.operations()) // 4


async def test_it_speaks_for_nobody_else_and_reaches_nothing_of_the_platform(issue, come_in):
    mine, other = await issue(), await issue(("admin",))
    async with come_in(mine) as guest:
        for subject in (
            f"api.{other.user}.agents.list", "req.agents.list", "evt.agents.created.x9",
            "job.goals.plan", "$JS.API.STREAM.NAMES", "$SRV.PING", "$SYS.REQ.SERVER.PING",
            "$SYS.REQ.USER.INFO", "tool.x9", "_INBOX.edge.x9", "_R_.x9", "live.models.x9",
            f"_INBOX.{other.user}.x9",
        ):  # fmt: skip
            await guest.is_refused(guest.connection.publish, subject)
        for subject in (
            ">", "evt.>" if "evt.>" not in mine.subscribe else "req.>", "req.>", "job.>", "api.>",
            "_INBOX.>", f"_INBOX.{other.user}.>", "_INBOX.edge.>", "$SRV.PING", "$SYS.>", "tool.>",
        ):  # fmt: skip
            await guest.is_refused(guest.connection.subscribe, subject)


async def test_its_reply_subject_spends_nobodys_rights(issue, come_in, bus_server):  # noqa: F811
    async with come_in(await issue()) as guest, bus_server.user("admin") as admin:
        await guest.connection.publish(
            f"api.{guest.id}.agents.list", b"{}", reply="$JS.API.STREAM.DELETE.JOBS"
        )
        assert (await guest.ask("agents.list"))[0] is None
        info = await admin.connection.jetstream().stream_info("JOBS")
        assert info.config.name == "JOBS"


async def test_it_hears_what_its_key_may_read(issue, come_in, ask):
    narrow = await issue(scopes=("agents:read",))
    assert "evt.agents.created.*" in narrow.subscribe
    async with come_in(narrow) as guest:
        await guest.is_refused(guest.connection.subscribe, "evt.goals.>")
        heard = await guest.connection.subscribe("evt.agents.created.*")
        await guest.connection.flush()
        async with come_in(await issue(("developer",))) as maker:
            _, agent = await maker.ask("agents.create", b'{"name": "b"}')
        while True:
            event = await heard.next_msg(timeout=10)
            if event.headers["ce-subject"] == agent["id"]:
                break
        assert json.loads(event.data)["agent"]["name"] == "b"


async def test_it_hears_again_what_it_may_read_and_replays_nothing_itself(issue, come_in, ask):
    narrow = await issue(scopes=("agents:read",))
    assert "replay.*.agents.created" in narrow.subscribe
    async with come_in(narrow) as guest:
        await guest.is_refused(guest.connection.subscribe, "replay.>")
        await guest.is_refused(guest.connection.subscribe, "replay.*.goals.submitted")
        await guest.is_refused(guest.connection.publish, "replay.x9.agents.created")
        heard = await guest.connection.subscribe("replay.*.agents.created")
        await guest.connection.flush()
        job = await ask(events.replay, ReplayEvents(target="subject", type="agents"))
        message = await heard.next_msg(timeout=10)
        assert message.subject == f"replay.{job.id}.agents.created"
        assert message.headers["x-replay"] == job.id


async def test_revoked_it_is_shown_out_and_does_not_come_in_again(issue, come_in, ask, bus_server):  # noqa: F811
    issued = await issue()
    async with come_in(issued) as guest:
        await ask(credentials.revoke, RevokeCredential(id=issued.user))
        await asyncio.wait_for(guest.closed.wait(), 5)
    assert await away(bus_server, issued)


async def test_a_revoked_key_ends_its_credentials_and_no_others(issue, come_in, ask, bus_server):  # noqa: F811
    ended, stays = await issue(), await issue()
    async with come_in(ended) as guest, come_in(stays) as other:
        await ask(keys.revoke_key, RevokeKey(id=ended.credential.key_id))
        await asyncio.wait_for(guest.closed.wait(), 5)
        assert (await other.ask("agents.list"))[0] is None
        assert not other.closed.is_set()
    assert await away(bus_server, ended)


async def test_a_denial_closes_the_connection_and_the_next_one_has_fewer_subjects(
    issue, come_in, ask
):
    issued = await issue()
    denial = Give(subject=f"key:{issued.credential.key_id}", permission="agents:read", allow=False)
    async with come_in(issued) as guest:
        assert (await guest.ask("agents.list"))[0] is None
        await ask(grants.give, denial)
        await asyncio.wait_for(guest.closed.wait(), 5)
    async with come_in(issued) as guest:
        await guest.is_refused(guest.connection.publish, f"api.{issued.user}.agents.list")
        assert (await guest.ask("goals.list"))[0] is None


async def away(bus_server, issued, **changed):  # noqa: F811
    """Whether it is turned away at the gate."""
    credential = {"user": issued.user, "password": issued.password} | changed
    return await turned_away(bus_server.url, **credential) != ""


async def test_a_wrong_password_or_name_does_not_open_the_gate(issue, bus_server):  # noqa: F811
    issued = await issue()

    for changed in (
        {"password": "x"}, {"password": ""}, {"user": "admin"}, {"user": "*"},
        {"user": issued.user.upper()}, {"user": "x' OR '1'='1"}, {"user": f"{issued.user}.>"},
    ):  # fmt: skip
        assert await away(bus_server, issued, **changed), changed


async def test_nobody_gets_more_by_a_credential_than_they_have(issue, ask, ask_as):
    admins = await ask(keys.issue_key, IssueKey(name="k"))
    narrow = ask_as("admin")
    narrow.principal = narrow.principal.model_copy(
        update={"scopes": ("keys:create", "keys:read", "agents:read")}
    )
    with pytest.raises(Denied):
        await narrow(credentials.create, CreateCredential(for_key=admins.key.id, name="x"))
    with pytest.raises(NotFound):
        await ask_as("viewer", "eve")(
            credentials.create, CreateCredential(for_key=admins.key.id, name="x")
        )
    mine = await issue(asker=ask_as("viewer", "eve"), roles=("viewer",))
    assert [
        c.id for c in (await ask_as("viewer", "eve")(credentials.listing, ListCredentials())).items
    ] == [mine.user]
    with pytest.raises(NotFound):
        await ask_as("viewer", "mallory")(credentials.revoke, RevokeCredential(id=mine.user))


async def test_the_password_is_in_no_event_and_no_stored_answer(issue, database_url, bus_server):  # noqa: F811
    issued = await issue()
    connection = await asyncpg.connect(database_url)
    try:
        tables = await connection.fetch(
            "SELECT schemaname || '.' || relname AS name FROM pg_stat_user_tables"
        )
        for table in tables:
            held = await connection.fetchval(
                f"SELECT count(*) FROM {table['name']} t WHERE t::text LIKE $1",
                f"%{issued.password}%",
            )
            assert held == 0, table["name"]
    finally:
        await connection.close()
    assert issued.password not in bus_server.log()


@pytest.mark.parametrize("role", ROLES)
async def test_the_subjects_of_each_role_are_those_of_the_permission_table(issue, role):
    issued, column = await issue((role,)), f"{matrix.OVER_NATS}.{role}"
    expected = {
        f"api.{issued.user}.{cells['operation']}"
        for cells in matrix.read().values()
        if cells[column] in ("allow", "own")
    }

    assert set(issued.publish) == expected
    assert f"_INBOX.{issued.user}.>" in issued.subscribe
