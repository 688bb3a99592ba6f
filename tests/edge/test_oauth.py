"""OAuth 2 over HTTP: a client of other make goes the whole way; forms and errors are the RFCs'."""

import re
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx2
import pytest
from authlib.integrations.httpx_client import AsyncOAuth2Client
from authlib.oauth2 import rfc8414, rfc9207

from bus.credentials import csrf_token
from bus.settings import Settings
from edge.showing import COOKIE
from tests.conftest import eventually

BACK = "https://client.example/back"
PASSWORD = "correct horse battery"  # pragma: allowlist secret
WITHIN_S = 10.0  # far less than the half minute for which a token is remembered
FORM = {"content-type": "application/x-www-form-urlencoded"}

pytestmark = pytest.mark.usefixtures("edge")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Reached under the address that the tests use."""
    return settings.model_copy(
        update={"public_url": f"http://127.0.0.1:{settings.edge_port}", "cors_origins": ()}
    )


class Browser:
    """A person's browser: it keeps the cookie, and sends what a browser sends."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = httpx2.AsyncClient(base_url=url, timeout=30)
        self.cookie = ""

    async def sign_in(self, login: str) -> None:
        answer = await self.client.post(
            "/api/v1/auth/login", json={"login": login, "password": PASSWORD, "browser": True}
        )
        assert answer.status_code == 200, answer.text
        header = answer.headers["set-cookie"]
        assert "Secure" in header
        self.cookie = re.match(rf"{COOKIE}=([^;]+);", header)[1]  # type: ignore[index]

    async def get(self, address: str) -> httpx2.Response:
        headers = {"cookie": f"{COOKIE}={self.cookie}"} if self.cookie else {}
        return await self.client.get(address, headers=headers)

    async def decide(self, address: str, *, allow: bool = True, **headers: str) -> httpx2.Response:
        """What the consent page sends."""
        fields = dict(parse_qsl(urlsplit(address).query)) | {"allow": allow}
        sent = {
            "cookie": f"{COOKIE}={self.cookie}", "origin": self.url,
            "sec-fetch-site": "same-origin", "x-csrf-token": csrf_token(self.cookie),
        } | headers  # fmt: skip
        return await self.client.post("/api/v1/auth/authorization", json=fields, headers=sent)


@pytest.fixture
async def browser(url: str, http: httpx2.AsyncClient) -> AsyncIterator[Browser]:
    """Ada's, signed in."""
    fields = {"login": "ada", "name": "Ada", "roles": ["developer"], "password": PASSWORD}
    assert (await http.post("/users", json=fields)).status_code == 201
    ada = Browser(url)
    await ada.sign_in("ada")
    yield ada
    await ada.client.aclose()


async def registered(http: httpx2.AsyncClient, **fields: Any) -> dict[str, Any]:
    wanted = {"name": "Reader", "redirect_uris": [BACK], "scopes": ["agents:read", "goals:read"]}
    answer = await http.post("/clients", json=wanted | fields)
    assert answer.status_code == 201, answer.text
    return answer.json()


def of_other_make(issued: dict[str, Any], **options: Any) -> AsyncOAuth2Client:
    """A client that knows nothing of ours but the RFCs."""
    return AsyncOAuth2Client(
        issued["client"]["id"], issued["secret"], redirect_uri=BACK, scope="agents:read",
        code_challenge_method="S256", timeout=30, **options,
    )  # fmt: skip


async def given(
    url: str, browser: Browser, issued: dict[str, Any], client: AsyncOAuth2Client
) -> Any:
    """The whole way from the client's link to its token."""
    verifier = "v" * 64
    address, state = client.create_authorization_url(
        f"{url}/oauth/authorize", code_verifier=verifier
    )
    there = await browser.get(address)
    assert (there.status_code, there.headers["location"].partition("?")[0]) == (303, "/consent")
    decided = await browser.decide(there.headers["location"])
    assert decided.status_code == 200, decided.text
    location = decided.json()["location"]
    assert parse_qs(urlsplit(location).query)["iss"] == [url]
    return await client.fetch_token(
        f"{url}/oauth/token", authorization_response=location, state=state, code_verifier=verifier
    )


async def shut(client: AsyncOAuth2Client, place: str) -> bool:
    """Whether its token opens nothing any more."""
    return bool((await client.get(place)).status_code == 401)


METHODS = ["client_secret_basic", "client_secret_post", "none"]


@pytest.mark.parametrize("method", METHODS)
async def test_a_client_of_other_make_goes_the_whole_way(
    url: str, http: httpx2.AsyncClient, browser: Browser, method: str
) -> None:
    issued = await registered(http, confidential=method != "none")
    async with of_other_make(issued, token_endpoint_auth_method=method) as client:
        token = await given(url, browser, issued, client)
        assert (token["token_type"], token["scope"]) == ("Bearer", "agents:read")
        assert (await client.get(f"{url}/api/v1/agents")).status_code == 200
        assert (await client.get(f"{url}/api/v1/goals")).status_code == 403
        before = token["access_token"]
        refreshed = await client.refresh_token(f"{url}/oauth/token")
        assert refreshed["access_token"] != before
        assert (await client.get(f"{url}/api/v1/agents")).status_code == 200
        if method != "none":
            asked = await client.introspect_token(f"{url}/oauth/introspect", before)
            assert (asked.json()["active"], asked.json()["username"]) == (True, "ada")
        ended = await client.revoke_token(f"{url}/oauth/revoke", refreshed["refresh_token"])
        assert (ended.status_code, ended.json()) == (200, {})
        await eventually(lambda: shut(client, f"{url}/api/v1/agents"), timeout_s=WITHIN_S)


async def test_a_client_acts_for_itself(url: str, http: httpx2.AsyncClient) -> None:
    issued = await registered(http, grants=["client_credentials"], redirect_uris=[])
    async with of_other_make(issued) as client:
        token = await client.fetch_token(f"{url}/oauth/token", grant_type="client_credentials")
        assert "refresh_token" not in token
        me = (await client.get(f"{url}/api/v1/auth/me")).json()
        assert (me["kind"], me["id"]) == ("client", issued["client"]["id"])


async def test_an_ended_token_opens_no_edge_though_it_was_remembered(
    url: str,
    second: str,
    http: httpx2.AsyncClient,
    browser: Browser,
) -> None:
    issued = await registered(http)
    own = await registered(http, grants=["client_credentials"], redirect_uris=[])
    places = [f"{place}/api/v1/agents" for place in (url, second)]
    async with of_other_make(issued) as client, of_other_make(own) as itself:
        await given(url, browser, issued, client)
        await itself.fetch_token(f"{url}/oauth/token", grant_type="client_credentials")

        async def seen(by: AsyncOAuth2Client) -> list[int]:
            return [(await by.get(place)).status_code for place in places]

        async def closed() -> bool:
            return [await seen(client), await seen(itself)] == [[401, 401], [401, 401]]

        assert [await seen(client), await seen(itself)] == [[200, 200], [200, 200]]
        await client.revoke_token(f"{url}/oauth/revoke", client.token["refresh_token"])
        assert (await http.delete(f"/clients/{own['client']['id']}")).status_code == 200
        await eventually(closed, timeout_s=WITHIN_S)


async def test_the_way_to_consent_leads_over_the_sign_in_and_never_elsewhere(
    url: str, http: httpx2.AsyncClient, anonymous: httpx2.AsyncClient, browser: Browser
) -> None:
    issued = await registered(http)
    async with of_other_make(issued) as client:
        address, _ = client.create_authorization_url(
            f"{url}/oauth/authorize", code_verifier="v" * 64, evil="https://evil.example/"
        )
    there = await anonymous.get(address)
    path, _, query = there.headers["location"].partition("?")
    after = parse_qs(query)["next"][0]
    assert (there.status_code, path) == (303, "/sign-in")
    assert after.startswith("/oauth/authorize?")
    assert "evil" not in after  # what is not of the request does not travel on
    assert (await browser.get(after)).headers["location"].startswith("/consent?")
    for wrong in ("https://evil.example/", "https://client.example/back/x"):
        fields = httpx2.QueryParams(parse_qsl(urlsplit(address).query))
        refused = await browser.get(f"/oauth/authorize?{fields.set('redirect_uri', wrong)}")
        assert refused.headers["location"].startswith("/consent?")  # which tells what is wrong
    plain = fields.set("code_challenge_method", "plain")
    refused = await browser.get(f"/oauth/authorize?{plain}")
    assert refused.headers["location"].startswith(f"{BACK}?error=invalid_request")
    twice = await browser.get(f"{address}&redirect_uri=https://evil.example/")
    assert twice.status_code == 400


CROSS = [
    {"x-csrf-token": ""}, {"x-csrf-token": "0" * 64}, {"origin": "https://evil.example"},
    {"origin": "null"}, {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"},
]  # fmt: skip


async def test_no_foreign_page_makes_a_person_consent(
    url: str, http: httpx2.AsyncClient, browser: Browser
) -> None:
    issued = await registered(http)
    async with of_other_make(issued) as client:
        address, _ = client.create_authorization_url(
            f"{url}/oauth/authorize", code_verifier="v" * 64
        )
    for headers in CROSS:
        answer = await browser.decide(address, **headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "ERR_304"), headers
    form = await browser.client.post(
        "/api/v1/auth/authorization", content="allow=true",
        headers=FORM | {"cookie": f"{COOKIE}={browser.cookie}"},
    )  # fmt: skip
    assert form.status_code == 403
    assert (await browser.decide(address)).status_code == 200


async def test_errors_have_the_form_of_the_rfc_and_are_not_kept(
    url: str, http: httpx2.AsyncClient, anonymous: httpx2.AsyncClient
) -> None:
    issued = await registered(http, grants=["client_credentials"], redirect_uris=[])
    auth = (issued["client"]["id"], issued["secret"])
    cases: list[tuple[dict[str, Any], int, str]] = [
        ({"data": {"grant_type": "client_credentials"}}, 401, "invalid_client"),
        ({"data": {"grant_type": "client_credentials"}, "auth": (auth[0], "x")}, 401,
         "invalid_client"),
        ({"data": {"grant_type": "urn:x"}, "auth": auth}, 400, "unsupported_grant_type"),
        ({"content": "", "headers": FORM, "auth": auth}, 400, "unsupported_grant_type"),
        ({"data": {"grant_type": "client_credentials", "scope": "x"}, "auth": auth}, 400,
         "invalid_scope"),
        ({"content": "grant_type=a&grant_type=b", "headers": FORM, "auth": auth}, 400,
         "invalid_request"),
        ({"content": "grant_type=%ff", "headers": FORM, "auth": auth}, 400, "invalid_request"),
        ({"content": "a=%00", "headers": FORM, "auth": auth}, 400, "invalid_request"),
        ({"content": "=x", "headers": FORM, "auth": auth}, 400, "invalid_request"),
    ]  # fmt: skip
    for sent, status, error in cases:
        answer = await anonymous.post("/oauth/token", **sent)
        assert (answer.status_code, answer.json()["error"]) == (status, error), sent
        assert answer.headers["cache-control"] == "no-store"
        assert ("www-authenticate" in answer.headers) == (status == 401)
    as_json = await anonymous.post("/oauth/token", json={"grant_type": "client_credentials"})
    assert as_json.status_code == 415
    assert (await anonymous.get("/oauth/token")).status_code in (401, 405)
    long = await anonymous.post("/oauth/token", data={"code": "x" * 20_000}, auth=auth)
    assert long.status_code == 413
    good = await anonymous.post(
        "/oauth/token", data={"grant_type": "client_credentials"}, auth=auth
    )
    assert (good.status_code, good.headers["cache-control"]) == (200, "no-store")


async def test_the_metadata_documents_are_valid_and_name_doors_that_are_there(
    url: str, anonymous: httpx2.AsyncClient
) -> None:
    found = (await anonymous.get("/.well-known/oauth-authorization-server")).json()
    metadata = rfc8414.AuthorizationServerMetadata(found | {"issuer": "https://portal.example"})
    for name, value in found.items():
        if isinstance(value, str):
            metadata[name] = value.replace(url, "https://portal.example")
    metadata.validate(metadata_classes=[rfc9207.AuthorizationServerMetadata])
    assert found["code_challenge_methods_supported"] == ["S256"]
    assert found["issuer"] == url
    for name in ("authorization_endpoint", "jwks_uri"):
        assert (await anonymous.get(found[name])).status_code in (200, 303), name
    for name in ("token_endpoint", "revocation_endpoint", "introspection_endpoint"):
        assert (await anonymous.post(found[name], data={"token": "x"})).status_code == 401, name
    resource = (await anonymous.get("/.well-known/oauth-protected-resource")).json()
    assert resource["authorization_servers"] == [url]


async def test_the_pages_hold_no_script_and_may_stand_in_no_frame(
    anonymous: httpx2.AsyncClient,
) -> None:
    for path in ("/sign-in", "/consent"):
        page = await anonymous.get(path)
        policy = page.headers["content-security-policy"]
        assert "script-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert not re.search(r"<script>|<style|\son\w+=|style=|https?://(?!<)", page.text)
        for file in re.findall(r'(?:src|href)="(/sign-in/[^"]+)"', page.text):
            assert (await anonymous.get(file)).status_code == 200, file


async def test_a_proof_is_asked_of_nobody_who_may_not_ask(
    url: str, http: httpx2.AsyncClient, key_of: Callable[..., Any]
) -> None:
    async with httpx2.AsyncClient(base_url=f"{url}/api/v1", timeout=20) as client:
        for role, status in (("viewer", 403), ("operator", 200), ("developer", 200)):
            headers = {"x-api-key": await key_of(role)}
            assert (await client.get("/clients", headers=headers)).status_code == status
