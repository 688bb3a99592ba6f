"""No request sets what it does not declare, and no answer shows what is secret."""

from typing import Any

import orjson
import pytest
import pytest_asyncio

from schemas import catalogue
from schemas.contract import Entity, Operation
from tests.security.kinds import token
from tests.security.world import Headers, World

pytestmark = pytest.mark.asyncio(loop_scope="module")

NO_SUCH = "0192f0c1-0000-7000-8000-000000000000"
PRIVILEGED = (
    "id", "owner_id", "created_by", "actor", "roles", "scopes", "version", "status", "is_admin",
    "admin", "principal", "permissions", "created_at", "tenant", "__class__", "__proto__",
    "constructor", "password", "hash", "secret_hash", "via", "run", "credential",
)  # fmt: skip
SECRET_WORDS = ("password", "hash", "sealed", "private", "refresh_token", "cookie", "secret")
SHOWN_ONCE = {  # what is made for the caller in this very answer
    ("identity.issue-key", "secret"), ("identity.rotate-key", "secret"),
    ("identity.sign-in", "refresh_token"), ("identity.sign-in", "cookie"),
    ("identity.refresh", "refresh_token"), ("credentials.create", "password"),
    ("identity.token", "refresh_token"), ("identity.finish-external", "refresh_token"),
    ("identity.finish-external", "cookie"), ("identity.register-client", "secret"),
    ("identity.rotate-client-secret", "secret"),
}  # fmt: skip
NOT_SECRET = {"hash", "content_hash", "params_hash", "last_hash"}
"""Of the event chain, of a document's bytes, of a call's arguments, of the audit chain's end."""
ENTITIES = {event.field_name for event in catalogue.events()}
"""An event's one field is its whole entity: `secret` is what the vault knows of one."""
BY_PATH = [o for o in catalogue.operations() if o.route is not None]


def entity_fields(operation: Operation[Any, Any]) -> set[str]:
    """Fields of whatever the operation answers with, and of what it changes."""
    types = [operation.reply, *(event.entity_type for event in operation.emits)]
    found = {name for kind in types for name in kind.model_fields}
    for field in operation.reply.model_fields.values():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Entity):
            found |= set(inner.model_fields)
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def admin(world: World) -> Headers:
    return await token(world, await world.person("admin"))


async def test_no_operation_takes_a_field_that_it_does_not_declare(
    world: World, admin: Headers
) -> None:
    client, found, tried = world.http(), [], 0
    for operation in BY_PATH:
        world.give_back_limits()
        route = operation.route
        assert route is not None
        path = route.path
        for name in route.parameters:
            path = path.replace(f"{{{name}}}", "x.y" if name == "name" else NO_SUCH)
        declared = set(operation.request.model_fields)
        for extra in sorted((entity_fields(operation) | set(PRIVILEGED)) - declared):
            tried += 1
            body = {extra: "admin"}
            sent: dict[str, Any] = (
                {"params": body} if route.method in ("GET", "DELETE") else {"json": body}
            )
            answer = await client.request(route.method, path, headers=admin, **sent)
            named = answer.status_code == 400 and extra in answer.text
            if not named or answer.json()["error"]["code"] != "ERR_100":
                found.append(f"{operation.name} {extra}: {answer.status_code} {answer.text[:200]}")
    assert tried > 1000
    assert found == []


async def test_a_path_cannot_be_contradicted_by_a_body_or_query(
    world: World, admin: Headers
) -> None:
    for operation in BY_PATH:
        assert operation.route is not None
        if not operation.route.parameters or operation.route.method not in ("POST", "PUT"):
            continue
        world.give_back_limits()
        path = operation.route.path
        for name in operation.route.parameters:
            path = path.replace(f"{{{name}}}", "x.y" if name == "name" else NO_SUCH)
        body = {operation.route.parameters[0]: NO_SUCH.replace("0", "1")}
        for sent in ({"json": body}, {"params": body}):
            answer = await world.http().request(operation.route.method, path, headers=admin, **sent)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "ERR_100")


def names_in(schema: Any) -> set[str]:
    """Every property of a JSON schema, at any depth."""
    if isinstance(schema, list):
        return set().union(*map(names_in, schema)) if schema else set()
    if not isinstance(schema, dict):
        return set()
    own = set(schema.get("properties", {}))
    return own.union(*map(names_in, schema.values()))


async def test_no_answer_or_event_has_a_field_for_a_secret() -> None:
    found = set()
    for operation in catalogue.operations():
        for name in names_in(operation.reply.model_json_schema()):
            if any(word in name for word in SECRET_WORDS):
                found.add((operation.name, name))
    for event in catalogue.events():
        for name in names_in(event.model_json_schema()) - ENTITIES:
            if any(word in name for word in SECRET_WORDS):
                found.add((event.name, name))
    assert {f for f in found - SHOWN_ONCE if f[1] not in NOT_SECRET} == set()


async def test_what_is_shown_once_is_shown_nowhere_again(world: World, admin: Headers) -> None:
    issued = (await world.http().post("/api-keys", json={"name": "once"}, headers=admin)).json()
    secret = issued["secret"].split("_", 2)[2]
    for path in (f"/api-keys/{issued['key']['id']}", "/api-keys?limit=200",
                 f"/events?aggregate_id={issued['key']['id']}", "/users", "/sessions"):  # fmt: skip
        answer = await world.http().get(path, headers=admin)
        assert answer.status_code == 200, answer.text
        names = set(_keys(orjson.loads(answer.content)))
        assert secret not in answer.text
        assert not {n for n in names if any(w in n for w in SECRET_WORDS)} - NOT_SECRET, path


def _keys(value: Any) -> list[str]:
    """Every key in a JSON value."""
    if isinstance(value, dict):
        return [*value, *(k for inner in value.values() for k in _keys(inner))]
    return [k for inner in value for k in _keys(inner)] if isinstance(value, list) else []
