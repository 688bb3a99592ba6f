"""One thing of every kind that has an owner, made for whoever shall own it."""

import secrets
from collections.abc import Awaitable, Callable

from bus.clock import Clock
from schemas import agents, documents, goals, human, registry, tools
from schemas.agents import Brief, CreateAgent, StartRun, ToolStep
from schemas.documents import ReprocessDocument, WriteArtifact
from schemas.human import AskPerson
from schemas.identity.clients import RegisterClient, register_client
from schemas.identity.keys import IssueKey, issue_key
from schemas.registry import RegisterService
from schemas.tools import RegisterTool
from schemas.workflows import definitions, runs, schedules
from schemas.workflows.definitions import CreateWorkflow
from schemas.workflows.document import Document
from schemas.workflows.runs import StartWorkflow
from schemas.workflows.schedules import CreateSchedule
from tests.conftest import look
from tests.factories import goal_of_calculations
from tests.security.world import Person, World

Maker = Callable[[World, Person], Awaitable[str]]


async def agent(world: World, owner: Person) -> str:
    """An agent that does nothing."""
    command = CreateAgent(name=f"a-{secrets.token_hex(5)}")
    return str((await world.as_owner(owner)(agents.create, command)).id)


async def run(world: World, owner: Person) -> str:
    """A run of an agent of the owner's."""
    step = ToolStep(name="sum", tool="calculator.evaluate", arguments={"expression": "1 + 1"})
    brief = Brief(objective="Compute", steps=(step,))
    command = StartRun(agent_id=await agent(world, owner), brief=brief)
    return str((await world.as_owner(owner)(agents.start_run, command)).id)


async def goal(world: World, owner: Person) -> str:
    """A goal of one task."""
    return str((await world.as_owner(owner)(goals.submit, goal_of_calculations(1))).id)


async def document(world: World, owner: Person) -> str:
    """A document that was written here."""
    command = WriteArtifact(title="Notes", body="# Notes\n\nwater boils at 100 degrees")
    return str((await world.as_owner(owner)(documents.write, command)).id)


async def job(world: World, owner: Person) -> str:
    """A queued piece of work."""
    command = ReprocessDocument(id=await document(world, owner))
    return str((await world.as_owner(owner)(documents.reprocess, command)).id)


async def tool(world: World, owner: Person) -> str:
    """A remote tool that nobody answers for; tools are known by name."""
    name = f"mine.t{secrets.token_hex(5)}"
    command = RegisterTool(
        name=name, description="Of the owner.", subject=f"tool.{name}",
        input_schema={"type": "object"},
    )  # fmt: skip
    await world.as_owner(owner)(tools.register, command)
    return name


async def service(world: World, owner: Person) -> str:
    """A registered service that does nothing; services are known by name."""
    name = f"s{secrets.token_hex(5)}"
    command = RegisterService(name=name, description="Of the owner.")
    return str((await world.as_owner(owner)(registry.register, command)).name)


async def api_key(world: World, owner: Person) -> str:
    """A key that was never used."""
    command = IssueKey(name="thing", roles=("viewer",))
    return str((await world.as_owner(owner)(issue_key, command)).key.id)


async def session(world: World, owner: Person) -> str:
    """A session that nobody uses; to sign in for each would only measure argon2."""
    rows = await look(
        world.platform,
        "INSERT INTO identity.sessions (id, version, owner_id, kind, scopes, created_at, expires_at)"
        " VALUES (gen_random_uuid(), 1, $1, 'tokens', '{}', now(), now() + interval '1 day')"
        " RETURNING id",
        owner.user.id,
    )
    return str(rows[0]["id"])


async def bus_credential(world: World, owner: Person) -> str:
    """A NATS user that stands for a key; here no gate is open that would issue one."""
    key_id = await api_key(world, owner)
    rows = await look(
        world.platform,
        "INSERT INTO credentials.bus_credentials (id, version, name, owner_id, key_id, created_at)"
        " VALUES (gen_random_uuid(), 1, 'thing', $1, $2, now()) RETURNING id",
        owner.user.id, key_id,
    )  # fmt: skip
    return str(rows[0]["id"])


async def client(world: World, owner: Person) -> str:
    """An OAuth client that nobody uses."""
    command = RegisterClient(
        name="thing", redirect_uris=("https://thing.example/back",), scopes=("agents:read",)
    )
    return str((await world.as_owner(owner)(register_client, command)).client.id)


async def workflow(world: World, owner: Person) -> str:
    """A workflow that waits."""
    document = Document.model_validate({"steps": [{"key": "w", "type": "wait", "signal": "never"}]})
    command = CreateWorkflow(name=f"w{secrets.token_hex(5)}", document=document)
    return str((await world.as_owner(owner)(definitions.create, command)).id)


async def workflow_run(world: World, owner: Person) -> str:
    """A run that waits."""
    command = StartWorkflow(id=await workflow(world, owner))
    return str((await world.as_owner(owner)(runs.start, command)).id)


async def schedule(world: World, owner: Person) -> str:
    """A schedule that is due next year."""
    command = CreateSchedule(
        name=f"s{secrets.token_hex(5)}",
        workflow_id=await workflow(world, owner),
        every_s=30_000_000,
    )
    return str((await world.as_owner(owner)(schedules.schedule_create, command)).id)


async def task(world: World, owner: Person) -> str:
    """A question that nobody waits for."""
    command = AskPerson(id=Clock().new_id(), owner_id=owner.user.id, title="?", question="May I?")
    return str((await world.admin.as_edge(human.ask, command)).id)


async def user(_: World, owner: Person) -> str:
    """A user is his own."""
    return owner.user.id


MAKERS: dict[str, Maker] = {
    "agents": agent, "runs": run, "goals": goal, "documents": document, "jobs": job,
    "tools": tool, "bus-credentials": bus_credential, "api-keys": api_key, "sessions": session,
    "users": user, "clients": client, "workflows": workflow, "workflow-runs": workflow_run,
    "services": service,
    "workflow-schedules": schedule, "inbox": task,
}  # fmt: skip
"""First part of the path -> how one is made."""
