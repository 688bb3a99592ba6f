"""Who gets in: nobody without a key but to the open doors; CORS; roles; drain."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx2

from bus.credentials import Credential, new_credential
from bus.settings import Settings
from edge.app import Running
from edge.rest import PREFIX
from schemas import catalogue
from schemas.principal import Role

ORIGIN = "http://localhost:3000"
FAILURES = 80


def from_address(client: httpx2.AsyncClient, address: str) -> httpx2.AsyncClient:
    """A client of the same edge that comes from another address."""
    transport = httpx2.AsyncHTTPTransport(local_address=address, verify=False)
    return httpx2.AsyncClient(base_url=client.base_url, transport=transport, timeout=20)


async def test_everything_but_the_open_doors_is_401_without_a_key(
    anonymous: httpx2.AsyncClient,
) -> None:
    closed = [o for o in catalogue.operations() if o.route and not o.public]
    paths = [(o.route.method, PREFIX + o.route.path) for o in closed]
    paths += [
        ("GET", f"{PREFIX}/events/stream"),
        ("GET", f"{PREFIX}/streams/models/x"),
        ("GET", f"{PREFIX}/nowhere"),
        ("DELETE", f"{PREFIX}/agents"),
        ("GET", "/metrics"),
        ("GET", "/nowhere"),
    ]
    for number, (method, path) in enumerate(paths):
        # every address may fail less often than there are doors
        address = f"127.0.0.{2 + number // FAILURES}"
        async with from_address(anonymous, address) as asking:
            answer = await asking.request(method, path.replace("{", "").replace("}", ""))
        assert answer.status_code == 401, path
        assert answer.json()["error"]["message"] == "Send a valid API key or token."
        assert answer.headers["www-authenticate"].startswith("Bearer")


OPEN_DOORS = [
    "/",
    "/assets/live.js",
    "/assets/live.css",
    "/sign-in",
    "/sign-in/sign-in.js",
    "/consent",
    "/.well-known/oauth-authorization-server",
    "/.well-known/oauth-protected-resource",
    "/docs",
    "/docs/swagger-ui-bundle.js",
    "/docs/swagger-ui.css",
    "/docs/start.js",
    "/openapi.json",
    "/openapi-3.0.json",
    "/asyncapi.json",
    "/health",
    "/health/live",
    "/health/ready",
]


async def test_open_doors_need_no_key(anonymous: httpx2.AsyncClient) -> None:
    for path in OPEN_DOORS:
        assert (await anonymous.get(path)).status_code == 200


async def test_pages_load_nothing_from_elsewhere(anonymous: httpx2.AsyncClient) -> None:
    for path in ("/", "/docs"):
        page = await anonymous.get(path)
        assert "script-src 'self'" in page.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
        assert "http://" not in page.text
        assert "https://" not in page.text


OUTSIDE = ["/docs/..%2f..%2fapp.py", "/docs/%2e%2e", "/assets/nope.js"]


async def test_static_files_stay_in_their_folder(http: httpx2.AsyncClient, url: str) -> None:
    for path in OUTSIDE:
        headers = {"authorization": http.headers["authorization"]}
        async with httpx2.AsyncClient(base_url=url, headers=headers) as client:
            assert (await client.get(path)).status_code == 404


async def test_a_wrong_key_is_401_whatever_is_wrong_with_it(
    anonymous: httpx2.AsyncClient, admin_key: Credential
) -> None:
    stranger = new_credential("key").text
    for headers in (
        {"authorization": f"Bearer {stranger}"},
        {"authorization": f"Basic {admin_key.text}"},
        {"authorization": "Bearer"},
        {"x-api-key": admin_key.text[:-1] + "x"},
        {"x-api-key": "a" * 5000},
        {"x-api-key": stranger, "authorization": f"Bearer {admin_key.text}"},
    ):
        answer = await anonymous.get(f"{PREFIX}/auth/me", headers=headers)
        assert answer.status_code == 401
        assert answer.json()["error"]["message"] == "Send a valid API key or token."


async def test_guessing_keys_ends_in_429_and_does_not_hinder_those_who_are_known(
    anonymous: httpx2.AsyncClient, http: httpx2.AsyncClient
) -> None:
    assert (await http.get("/auth/me")).status_code == 200
    statuses = []
    for _ in range(140):
        statuses.append((await anonymous.get(f"{PREFIX}/auth/me")).status_code)
        if statuses[-1] == 429:
            break
    assert statuses[-1] == 429
    assert 95 <= statuses.count(401) <= 105
    assert (await http.get("/auth/me")).status_code == 200


async def test_a_role_reaches_as_far_as_the_matrix_says(
    anonymous: httpx2.AsyncClient, key_of: Callable[[Role], Awaitable[str]]
) -> None:
    headers = {"x-api-key": await key_of("viewer")}
    denied = await anonymous.post(f"{PREFIX}/agents", json={"name": "x"}, headers=headers)
    allowed = await anonymous.get(f"{PREFIX}/agents", headers=headers)
    assert (denied.status_code, denied.json()["error"]["code"]) == (403, "ERR_300")
    assert denied.json()["error"]["details"] == {"permission": "agents:create"}
    assert allowed.status_code == 200


async def test_browsers_may_call_only_from_the_configured_origins(
    anonymous: httpx2.AsyncClient,
) -> None:
    ask = {"access-control-request-method": "POST"}
    ours = await anonymous.options(f"{PREFIX}/agents", headers=ask | {"origin": ORIGIN})
    theirs = await anonymous.options(f"{PREFIX}/agents", headers=ask | {"origin": "http://evil"})
    plain = await anonymous.get(f"{PREFIX}/agents", headers={"origin": ORIGIN})
    assert ours.status_code == theirs.status_code == 204
    assert ours.headers["access-control-allow-origin"] == ORIGIN
    assert "idempotency-key" in ours.headers["access-control-allow-headers"]
    assert "access-control-allow-origin" not in theirs.headers
    assert plain.headers["access-control-allow-origin"] == ORIGIN
    assert plain.headers["vary"] == "Origin"
    assert "access-control-allow-credentials" not in plain.headers


async def test_limits_are_told_with_every_answer(http: httpx2.AsyncClient) -> None:
    answer = await http.get("/auth/me")
    assert answer.headers["ratelimit-policy"] == '"service";q=600000;w=60'
    assert answer.headers["ratelimit"].startswith('"service";r=5999')


async def test_metrics_need_a_key_and_count_requests(
    http: httpx2.AsyncClient, anonymous: httpx2.AsyncClient
) -> None:
    await http.get("/auth/me")
    headers = {"authorization": http.headers["authorization"]}
    answer = await anonymous.get("/metrics", headers=headers)
    assert 'portal_http_requests_total{operation="identity.me",status="200"}' in answer.text


async def test_a_draining_edge_finishes_what_it_has_begun(
    settings: Settings, http: httpx2.AsyncClient, edge: Running
) -> None:
    asked = [asyncio.create_task(http.get("/agents")) for _ in range(20)]
    await asyncio.sleep(0.02)
    edge.edge.health.draining = True
    assert not await edge.edge.health.ready()
    answers = await asyncio.gather(*asked)
    assert {answer.status_code for answer in answers} == {200}
