"""The headers that protect a browser, exactly, for each kind of answer; and who may read across."""

import httpx2

from edge.app import Running
from tests.security.raw import Raw, each

ORIGIN = "http://localhost:3000"
ALWAYS = {
    "x-content-type-options": "nosniff", "x-frame-options": "DENY", "referrer-policy": "no-referrer",
}  # fmt: skip
API = ALWAYS | {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}
PAGE = ALWAYS | {
    "cache-control": "no-cache",
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
}
FILE = API | {"content-security-policy": "sandbox; default-src 'none'; frame-ancestors 'none'"}
LIMIT = {
    "ratelimit", "ratelimit-policy", "x-ratelimit-limit", "x-ratelimit-remaining",
    "x-ratelimit-reset",
}  # fmt: skip
OWN = {"content-type", "content-length", "date", "x-request-id", "connection", "transfer-encoding"}
CLASSES = {
    "page": ("GET", "/", PAGE, set(), 200),
    "asset": ("GET", "/assets/live.js", PAGE, set(), 200),
    "documents": ("GET", "/docs", PAGE, set(), 200),
    "openapi": ("GET", "/openapi.json", API, set(), 200),
    "health": ("GET", "/health/live", API, set(), 200),
    "metrics": ("GET", "/metrics", API, LIMIT, 200),
    "a reply": ("GET", "/api/v1/auth/me", API, LIMIT, 200),
    "nothing there": ("GET", "/api/v1/nowhere", API, LIMIT, 404),
    "a wrong method": ("DELETE", "/api/v1/agents", API, LIMIT | {"allow"}, 405),
    "malformed": ("GET", "/api/v1/agents?limit=x", API, LIMIT, 400),
    "a preflight that is none": ("OPTIONS", "/api/v1/agents", API, LIMIT | {"allow"}, 204),
}  # fmt: skip


@each(("method", "path", "expected", "more", "status"), CLASSES)
async def test_every_kind_of_answer_has_exactly_these_headers(
    http, url, method, path, expected, more, status
):
    headers = {"authorization": http.headers["authorization"]}
    async with httpx2.AsyncClient(base_url=url, headers=headers) as client:
        answer = await client.request(method, path)
    found = dict(answer.headers)

    assert answer.status_code == status
    assert {name: found[name] for name in found.keys() - OWN - more} == expected
    assert more <= found.keys()


async def test_an_unknown_caller_gets_the_same_protection(anonymous: httpx2.AsyncClient):
    answer = await anonymous.get("/api/v1/auth/me")
    found = dict(answer.headers)

    assert found.pop("www-authenticate") == 'Bearer realm="story-portal"'
    assert {name: found[name] for name in found.keys() - OWN} == API


async def test_a_document_comes_as_a_file_in_a_sandbox(http: httpx2.AsyncClient):
    body = b"<script>alert(1)</script>"
    made = await http.post(
        "/documents?name=x.html", content=body, headers={"content-type": "text/html"}
    )
    answer = await http.get(f"/documents/{made.json()['id']}/content", headers={"accept": "*/*"})
    found = dict(answer.headers)
    assert {n: found[n] for n in FILE if n in found} in (FILE, API)
    if answer.headers["content-type"] == "application/octet-stream":
        assert found["content-disposition"].startswith("attachment")
        assert {n: found[n] for n in FILE} == FILE


async def test_no_content_policy_allows_what_stands_in_the_page(raw: Raw):
    for path in (b"/", b"/docs", b"/openapi.json", b"/api/v1/auth/me", b"/nowhere"):
        policy = (await raw.ask(path)).header("content-security-policy") or ""
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert "*" not in policy


async def test_strict_transport_is_asked_for_only_where_the_client_is_encrypted(raw: Raw):
    told = await raw.ask(b"/health/live", b"x-forwarded-proto: https")

    assert told.header("strict-transport-security") is None  # nobody trusts this peer


ORIGINS = [
    "null", "http://evil.example", "http://localhost:3000.evil.example", "http://evil.localhost:3000",
    "https://localhost:3000", "http://localhost:30001", "http://localhost", "http://LOCALHOST:3000",
    "http://localhost:3000/", "http://localhost:3000@evil.example", "file://", "*", "",
    "http://127.0.0.1:3000", "http://localhost:3000 http://evil.example",
]  # fmt: skip


@each("origin", ORIGINS)
async def test_an_origin_that_is_not_listed_may_read_nothing(raw: Raw, origin: str):
    line = b"origin: " + origin.encode()
    preflight = await raw.ask(
        b"/api/v1/agents", line, b"access-control-request-method: POST", method=b"OPTIONS"
    )
    plain = await raw.ask(b"/api/v1/auth/me", line)
    refused = await raw.ask(b"/api/v1/auth/me", line, key=False)
    for answer in (preflight, plain, refused):
        assert not [name for name, _ in answer.headers if name.startswith("access-control-")]
        assert answer.header("vary") == "Origin"


async def test_a_listed_origin_may_read_but_never_with_cookies(raw: Raw):
    for key in (True, False):
        answer = await raw.ask(b"/api/v1/auth/me", b"origin: " + ORIGIN.encode(), key=key)
        assert answer.header("access-control-allow-origin") == ORIGIN
        assert answer.header("access-control-allow-credentials") is None


async def test_a_broken_edge_still_protects_and_tells_nothing(raw: Raw, edge: Running, monkeypatch):
    async def broken(*_):
        raise RuntimeError("the secret is hunter2")

    monkeypatch.setattr(edge.edge.sockets._authentication, "of_request", broken)
    answer = await raw.ask()

    assert answer.status == 500
    assert {n: answer.header(n) for n in API} == API
    assert (
        answer.json["error"]["message"]
        == "Something broke on our side; it is logged under the request id."
    )
    assert b"hunter2" not in answer.body
