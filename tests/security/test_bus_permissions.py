"""What the server refuses: every role against every subject of every other, and the known attacks.

The matrix is made from the roles, so a new operation, event or job is covered the moment it is
declared. The attacks below it say by hand what must never be possible.
"""

import asyncio
import json
import subprocess
from contextlib import AsyncExitStack

import pytest
from nats.js.api import ConsumerConfig

from deploy.embedded import nats_server
from deploy.nats import keys, render, roles, server
from schemas import catalogue
from tests.catalogue.test_catalogue import covers
from tests.security.secured_bus import bus_ready, bus_server, turned_away  # noqa: F401

PORTAL = {role.name: role for role in roles.platform()}
SYSTEM = {role.name: role for role in roles.system()}
HANDLERS = {"handlers", *catalogue.DOMAINS}
DANGEROUS = (
    "$JS.API.STREAM.CREATE.X9", "$JS.API.STREAM.UPDATE.EVENTS", "$JS.API.STREAM.DELETE.EVENTS",
    "$JS.API.STREAM.PURGE.EVENTS", "$JS.API.STREAM.MSG.DELETE.EVENTS", "$JS.API.META.LEADER.STEPDOWN",
    "$JS.API.STREAM.RESTORE.X9", "$JS.API.STREAM.SNAPSHOT.EVENTS", "$JS.API.CONSUMER.CREATE.EVENTS",
    "$JS.API.CONSUMER.DURABLE.CREATE.EVENTS.x9", "$JS.API.CONSUMER.DELETE.EVENTS.goals-follow-step",
    "$SYS.REQ.SERVER.PING", "$SYS.REQ.USER.AUTH", "$SYS.REQ.ACCOUNT.PING.CONNZ", "$SYS.ACCOUNT.X9",
    "_INBOX.x9", "_INBOX.edge.x9", "_INBOX.handlers.x9", "api.x9.agents.list", "anything", "_R_.x9",
    "evt.made.up.x9", "job.made-up.x9", "dead.x9.y9", "tool.x9", "live.x9.y9", "$KV.x9.y9",
)  # fmt: skip


def example(pattern):
    """A subject that the pattern covers."""
    return pattern.split()[0].replace("*", "x9").replace(">", "x9.y9")


def allowed(subject, allow, deny=()):
    return any(covers(p, subject) for p in allow) and not any(covers(p, subject) for p in deny)


def probes(of):
    """One subject for every right that anybody has, and those that are always worth a try."""
    return sorted({example(p) for role in PORTAL.values() for p in of(role)} | set(DANGEROUS))


ASK_NEARLY_ALL = ("handlers", "workflows")
"""Documents of workflows name what their owners may ask, which the handler asked weighs again."""


async def refused(user, subjects, act):
    """Which of these the server does not take."""
    user.refused.clear()
    for subject in subjects:
        await act(subject)
    told = {error.rpartition(' "')[2].rstrip('"') for error in await user.told()}
    return {subject for subject in subjects if subject.lower() in told}


@pytest.mark.parametrize("name", PORTAL)
async def test_a_role_publishes_what_the_table_allows_and_nothing_else(bus_server, name):  # noqa: F811
    role, subjects = PORTAL[name], probes(lambda role: (*role.publish, *role.deny_publish))
    expected = {s for s in subjects if not allowed(s, role.publish, role.deny_publish)}

    async with bus_server.user(name) as user:
        said_no = await refused(user, subjects, lambda s: user.connection.publish(s, b""))

    assert said_no == expected
    assert len(expected) > len(subjects) // (8 if name in ASK_NEARLY_ALL else 4)


@pytest.mark.parametrize("name", PORTAL)
async def test_a_role_hears_what_the_table_allows_and_nothing_else(bus_server, name):  # noqa: F811
    role, subjects = PORTAL[name], probes(lambda role: role.subscribe)
    plain = [pattern for pattern in role.subscribe if " " not in pattern]
    expected = {s for s in subjects if not allowed(s, plain)}

    async with bus_server.user(name) as user:
        said_no = await refused(user, subjects, user.connection.subscribe)

    assert said_no == expected


@pytest.mark.parametrize("name", PORTAL)
async def test_requests_come_only_to_members_of_their_own_queue(bus_server, name):  # noqa: F811
    mine = catalogue.DOMAINS if name == "handlers" else (name,)
    async with bus_server.user(name) as user:
        for operation in catalogue.operations():
            own = operation.domain in mine
            assert await user.may_subscribe(operation.subject, operation.domain) == (
                own or name == "inspector"
            ), operation.name
            assert await user.may_subscribe(operation.subject, "thieves") == (name == "inspector")


def test_only_those_who_must_hold_what_does_harm():
    def publishers(subject):
        return {
            n for n, role in PORTAL.items() if allowed(subject, role.publish, role.deny_publish)
        }

    assert publishers("$JS.API.STREAM.DELETE.EVENTS") == {"admin"}
    assert publishers("$JS.API.STREAM.PURGE.EVENTS") == {"admin"}
    assert publishers("$JS.API.CONSUMER.CREATE.EVENTS") == {"admin"}
    assert publishers("$JS.API.CONSUMER.CREATE.EVENTS.goals-follow-step.evt.>") == {"admin"}
    assert publishers("$JS.API.CONSUMER.MSG.NEXT.JOBS.goals-plan") == {"admin", "goals", "handlers"}
    assert publishers("evt.goals.completed.x9") == HANDLERS
    assert publishers("job.goals.plan") == HANDLERS
    assert publishers("replay.x9.goals.completed") == {"events", "handlers"}
    assert publishers("$JS.API.STREAM.MSG.GET.REPLAY") == {"events", "handlers", "admin"}
    assert publishers("req.identity.resolve-key") == {"edge"}
    assert publishers("api.x9.agents.list") == set()
    assert publishers("$SYS.REQ.SERVER.PING") == set()
    for role in PORTAL.values():
        foreign = {f"_INBOX.{other}.x9" for other in PORTAL if other != role.name}
        assert not any(allowed(subject, role.subscribe) for subject in foreign), role.name


def test_no_answer_from_outside_can_pass_for_that_of_a_layer_or_a_stream():
    inboxes = {p for p in PORTAL["outside"].publish if p.startswith("_INBOX.")}

    assert inboxes == {"_INBOX.from-outside.*", "_INBOX.watcher.>", "_INBOX.inspector.>"}
    assert not allowed("_INBOX.from-outside.x9", PORTAL["outside"].subscribe)


async def test_the_reply_subject_spends_nobodys_rights(bus_ready, bus_server):  # noqa: F811
    """A layer, a tool and the server itself are made to reply into the management of streams."""
    async with AsyncExitStack() as stack:
        admin, edge, agents, tools, outside, watcher = [
            await stack.enter_async_context(bus_server.user(name))
            for name in ("admin", "edge", "agents", "tools", "outside", "watcher")
        ]
        for asker, answerer, subject, queue in (
            (edge, agents, "req.agents.create", "agents"), (tools, outside, "tool.x9", ""),
        ):  # fmt: skip
            heard = asyncio.Event()

            async def respond(message, heard=heard):
                await message.respond(b"")
                heard.set()

            await answerer.connection.subscribe(subject, queue=queue, cb=respond)
            await answerer.told()  # the subscription stands
            await asker.connection.publish(subject, b"", reply="$JS.API.STREAM.DELETE.JOBS")
            await asyncio.wait_for(heard.wait(), 5)
            assert any("js.api.stream.delete.jobs" in error for error in await answerer.told())
        await watcher.connection.publish(
            "$JS.API.STREAM.NAMES", b"", reply="$JS.API.STREAM.DELETE.JOBS"
        )
        await watcher.told()
        streams = await admin.connection.jetstream().streams_info()

    assert {"EVENTS", "JOBS"} <= {stream.config.name for stream in streams}


@pytest.mark.parametrize("target", ["$JS.API.STREAM.DELETE.JOBS", "$JS.API.STREAM.PURGE.JOBS"])
async def test_a_consumer_of_the_edge_delivers_nothing_into_the_management_of_streams(
    bus_ready, bus_server, target  # noqa: F811
):  # fmt: skip
    async with bus_server.user("edge") as edge, bus_server.user("handlers") as handlers:
        config = {
            "name": "x9", "filter_subject": "evt.>", "deliver_subject": target,
            "deliver_policy": "all", "ack_policy": "none", "mem_storage": True,
        }  # fmt: skip
        await edge.connection.request(
            "$JS.API.CONSUMER.CREATE.EVENTS.x9.evt.>",
            json.dumps({"stream_name": "EVENTS", "config": config}).encode(),
        )
        await handlers.connection.jetstream().publish("job.goals.plan", b"{}")
        await handlers.connection.jetstream().publish("evt.goals.completed.x9", b"{}")
        await edge.connection.flush()
        async with bus_server.user("admin") as admin:
            info = await admin.connection.jetstream().stream_info("JOBS")

    assert info.state.messages == 1


@pytest.mark.parametrize("body_name", ["goals-follow-step", "x9"])
async def test_the_edge_cannot_take_over_a_named_consumer(bus_ready, bus_server, body_name):  # noqa: F811
    config = {"name": body_name, "filter_subject": "evt.>", "ack_policy": "none"}
    body = json.dumps({"stream_name": "EVENTS", "config": config}).encode()
    async with bus_server.user("edge") as edge, bus_server.user("admin") as admin:
        jetstream = admin.connection.jetstream()
        before = (await jetstream.consumer_info("EVENTS", "goals-follow-step")).config
        await edge.connection.publish("$JS.API.CONSUMER.CREATE.EVENTS.x9.evt.>", body)
        for subject in (
            "$JS.API.CONSUMER.CREATE.EVENTS",
            "$JS.API.CONSUMER.CREATE.EVENTS.goals-follow-step.evt.>",
            "$JS.API.CONSUMER.MSG.NEXT.EVENTS.goals-follow-step",
        ):
            edge.refused.clear()
            await edge.connection.publish(subject, body)
            assert await edge.told(), subject
        after = (await jetstream.consumer_info("EVENTS", "goals-follow-step")).config

    assert after == before
    assert isinstance(after, ConsumerConfig)


async def test_an_answer_is_read_by_nobody_but_who_asked(bus_server):  # noqa: F811
    async with AsyncExitStack() as stack:
        users = [await stack.enter_async_context(bus_server.user(name)) for name in PORTAL]
        for user in users:
            for other in (*PORTAL, *SYSTEM):
                mine = other == user.role
                assert await user.may_subscribe(f"_INBOX.{other}.>") == mine, (user.role, other)
            assert not await user.may_subscribe("_INBOX.>")
            assert not await user.may_subscribe(">")


async def test_the_system_account_is_closed_to_the_platform_and_logins_to_operators(bus_server):  # noqa: F811
    async with bus_server.user("gatekeeper") as gatekeeper:
        assert await gatekeeper.may_subscribe("$SYS.REQ.USER.AUTH", "gatekeeper")
        assert not await gatekeeper.may_subscribe("$SYS.REQ.USER.AUTH")
        assert not await gatekeeper.may_subscribe("$SYS.>")
        assert not await gatekeeper.may_publish("$SYS.REQ.SERVER.PING.VARZ")
        assert not await gatekeeper.may_publish("$SYS.REQ.SERVER.x9.RELOAD")
    async with bus_server.user("operator") as operator:
        assert await operator.may_subscribe("$SYS.ACCOUNT.>")
        assert not await operator.may_subscribe("$SYS.REQ.USER.AUTH")


@pytest.mark.parametrize("how", ["nothing", "password", "token", "another seed"])
async def test_who_is_not_known_does_not_come_in(bus_server, how):  # noqa: F811
    credential = {
        "nothing": {},
        "password": {"user": "admin", "password": "admin"},  # pragma: allowlist secret
        "token": {"token": "admin"},
        "another seed": {"nkeys_seed_str": keys.new_seed("x9").decode()},
    }[how]

    assert "authorization" in (await turned_away(bus_server.url, **credential)).lower()


def test_the_configuration_is_fresh_valid_and_without_what_is_absent_on_purpose(tmp_path):
    text = server.ACCOUNTS.read_text()
    keys.ensure(tmp_path / "seeds")
    listen = f'listen: 127.0.0.1:0\njetstream {{\n  store_dir: "{tmp_path}"\n}}\n'
    config = tmp_path / "nats.conf"
    config.write_text(server.configuration(listen, keys.variables(tmp_path / "seeds")))
    checked = subprocess.run(
        [nats_server.binary(), "-t", "-c", str(config)], capture_output=True, text=True, check=False
    )

    assert text == render.accounts(), "run `python -m deploy.nats` and commit what it writes"
    assert checked.returncode == 0, checked.stderr
    for absent in (
        "allow_responses",
        "no_auth_user",
        "websocket",
        "mqtt",
        "leafnodes",
        "password:",
    ):
        assert absent not in text
    for bound in ("max_control_line", "max_pending", "max_connections", "write_deadline"):
        assert bound in server.BOUNDS


def test_seeds_are_private_and_stay(tmp_path):
    keys.ensure(tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    keys.ensure(tmp_path)

    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    assert {file.stat().st_mode & 0o077 for file in tmp_path.iterdir()} == {0}
    assert {f"{name}.seed" for name in (*PORTAL, *SYSTEM, keys.ISSUER)} == set(before)
    assert len({keys.public(tmp_path, name) for name in (*PORTAL, *SYSTEM)}) == len(before) - 1
