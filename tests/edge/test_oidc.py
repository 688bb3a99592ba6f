"""Sign-in by an external OpenID Connect provider, a real one, honest and lying."""

import base64
import hmac
import json
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import httpx2
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from bus.credentials import hash_secret
from bus.settings import Settings
from edge.external import COOKIE as BINDING
from edge.external import own_path
from edge.showing import COOKIE
from tests.conftest import look
from tests.edge.openid_provider import CLIENT_ID, SECRET, Provider, at_free_port, fresh_key, serving

PASSWORD = "correct horse battery"  # pragma: allowlist secret


@pytest.fixture
async def provider(settings: Settings) -> AsyncIterator[Provider]:
    found = PROVIDERS[settings.edge_port]
    async with serving(found) as serves:
        yield serves


PROVIDERS: dict[int, Provider] = {}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    url = f"http://127.0.0.1:{settings.edge_port}"
    made = PROVIDERS[settings.edge_port] = at_free_port(f"{url}/auth/oidc/callback")
    return settings.model_copy(
        update={
            "public_url": url,
            "oidc_issuer": made.url,
            "oidc_client_id": CLIENT_ID,
            "oidc_client_secret": Settings(oidc_client_secret=SECRET).oidc_client_secret,
        }
    )


def cookie_in(answer: httpx2.Response, name: str) -> str | None:
    """A cookie that the answer sets; empty when it is taken back."""
    for header in answer.headers.get_list("set-cookie"):
        match = re.match(rf"{name}=([^;]*);", header)
        if match:
            assert "Secure; HttpOnly; SameSite=Lax" in header
            return match[1]
    return None


class Browser:
    """The steps of a browser, one by one, so that a test can bend each."""

    def __init__(self, url: str) -> None:
        self.client = httpx2.AsyncClient(base_url=url, timeout=30)
        self.binding = ""

    async def start(self, after: str = "/docs") -> str:
        answer = await self.client.get(f"/auth/oidc/start?{urlencode({'next': after})}")
        assert answer.status_code == 303, answer.text
        self.binding = cookie_in(answer, BINDING) or ""
        return answer.headers["location"]

    async def at_provider(self, location: str) -> str:
        answer = await self.client.get(location)
        assert answer.status_code == 307, answer.text
        return answer.headers["location"]

    async def back(self, address: str, binding: str | None = None) -> httpx2.Response:
        cookie = f"{BINDING}={self.binding if binding is None else binding}"
        return await self.client.get(address, headers={"cookie": cookie})

    async def whole_way(self) -> httpx2.Response:
        return await self.back(await self.at_provider(await self.start()))

    async def me(self, answer: httpx2.Response) -> dict[str, Any]:
        headers = {"cookie": f"{COOKIE}={cookie_in(answer, COOKIE)}"}
        found = await self.client.get("/api/v1/auth/me", headers=headers)
        assert found.status_code == 200, found.text
        return dict(found.json())


@pytest.fixture
async def browser(url: str, provider: Provider) -> AsyncIterator[Browser]:
    found = Browser(url)
    yield found
    await found.client.aclose()


async def test_somebody_new_comes_in_as_a_viewer_and_is_known_the_next_time(
    browser: Browser, http: httpx2.AsyncClient, provider: Provider
) -> None:
    answer = await browser.whole_way()
    assert (answer.status_code, answer.headers["location"]) == (303, "/docs")
    assert cookie_in(answer, BINDING) == ""  # it has served
    me = await browser.me(answer)
    assert (me["kind"], me["roles"]) == ("user", ["viewer"])
    user = (await http.get(f"/users/{me['id']}")).json()
    assert (user["login"], user["name"]) == ("ada", "Ada L.")
    assert (await browser.me(await browser.whole_way()))["id"] == me["id"]
    provider.user = provider.user | {"sub": "s-2"}
    assert (await browser.me(await browser.whole_way()))["id"] != me["id"]
    assert provider.asked.count("discovery") == provider.asked.count("keys") == 1


async def test_an_account_of_the_same_login_is_never_taken_over(
    browser: Browser, http: httpx2.AsyncClient
) -> None:
    fields = {"login": "ada", "name": "Ada", "roles": ["admin"], "password": PASSWORD}
    local = (await http.post("/users", json=fields)).json()
    me = await browser.me(await browser.whole_way())
    assert me["id"] != local["id"]
    assert me["roles"] == ["viewer"]


async def test_a_user_who_was_linked_comes_in_as_himself_until_disabled(
    browser: Browser, http: httpx2.AsyncClient
) -> None:
    fields = {"login": "ben", "name": "Ben", "roles": ["operator"]}
    ben = (await http.post("/users", json=fields)).json()
    linked = await http.put(f"/users/{ben['id']}/external", json={"subject": "s-1"})
    assert linked.status_code == 200
    me = await browser.me(await browser.whole_way())
    assert (me["id"], me["roles"]) == (ben["id"], ["operator"])
    twice = await http.put(f"/users/{ben['id']}/external", json={"subject": "s-1"})
    assert (twice.status_code, twice.json()["error"]["code"]) == (409, "ERR_183")
    await http.delete(f"/users/{ben['id']}")
    assert_refused(await browser.whole_way(), "ERR_200")
    await http.post(f"/users/{ben['id']}/enable")
    assert (await http.delete(f"/users/{ben['id']}/external")).status_code == 200
    assert (await browser.me(await browser.whole_way()))["id"] != ben["id"]


def assert_refused(answer: httpx2.Response, code: str) -> None:
    """Back on the sign-in page, which says why, and no session."""
    assert answer.status_code == 303, answer.text
    assert answer.headers["location"].startswith(f"/sign-in?refused={code}")
    assert cookie_in(answer, COOKIE) is None


class TestOnlyLinked:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"oidc_roles": ()})

    async def test_where_only_linked_users_may_come_nobody_else_does(
        self, browser: Browser, platform: Any
    ) -> None:
        assert_refused(await browser.whole_way(), "ERR_305")
        assert await look(platform, "SELECT 1 FROM identity.users") == []


class TestBeforeTheFirst:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"bootstrap_setup_hash": hash_secret("x" * 30)})

    async def test_nobody_comes_in_before_the_first_administrator(
        self, browser: Browser, anonymous: httpx2.AsyncClient
    ) -> None:
        assert_refused(await browser.whole_way(), "ERR_305")
        first = {"token": "x" * 30, "login": "root", "name": "Root", "password": PASSWORD}
        assert (await anonymous.post("/api/v1/auth/setup", json=first)).status_code == 201
        assert await browser.me(await browser.whole_way())


def encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).decode().rstrip("=")


def forged_none(header: dict[str, Any], claims: dict[str, Any]) -> str:
    head = json.dumps({"alg": "none"}).encode()
    return f"{encoded(head)}.{encoded(json.dumps(claims).encode())}."


def with_public_key(provider: Provider, content: bytes) -> Any:
    """HS256, with the public key, which everybody knows, as the secret."""

    def forged(header: dict[str, Any], claims: dict[str, Any]) -> str:
        head = json.dumps({"alg": "HS256", "kid": provider.key.kid}).encode()
        signed = f"{encoded(head)}.{encoded(json.dumps(claims).encode())}"
        return f"{signed}.{encoded(hmac.digest(content, signed.encode(), 'sha256'))}"

    return forged


def changed(**values: Any) -> Any:
    def lie(header: dict[str, Any], claims: dict[str, Any]) -> None:
        for name, value in values.items():
            if value is None:
                claims.pop(name, None)
            else:
                claims[name] = value

    return lie


def own_key_in_header(header: dict[str, Any], claims: dict[str, Any]) -> str:
    key = RSAKey.generate_key(2048, {"kid": header["kid"]})
    header |= {"jwk": key.as_dict(private=False)}
    return jwt.encode(header, claims, key, ["RS256"])


async def test_no_lie_of_an_id_token_opens_a_session(
    browser: Browser, provider: Provider, platform: Any
) -> None:
    other = fresh_key("first")  # the right name on the wrong key
    lies = [
        changed(nonce="another"), changed(nonce=None), changed(aud="another"), changed(aud=None),
        changed(aud=["another", "third"]), changed(aud=[CLIENT_ID, "another"]),
        changed(iss="https://evil.example"), changed(iss=None), changed(exp=1), changed(exp=None),
        changed(azp="another"), changed(sub=None), changed(sub=""), changed(iat=None),
        changed(nbf=4_000_000_000), forged_none, own_key_in_header,
        with_public_key(provider, provider.key.as_pem(private=False)),
        with_public_key(provider, json.dumps(provider.key.as_dict(private=False)).encode()),
        lambda h, c: other, lambda h, c: h.update(kid="unknown"), lambda h, c: "nonsense",
        lambda h, c: "a.b.c", lambda h, c: "",
    ]  # fmt: skip
    for number, lie in enumerate(lies):
        provider.lie = lie
        answer = await browser.whole_way()
        assert_refused(answer, "ERR_207"), number
    assert await look(platform, "SELECT 1 FROM identity.users") == []
    provider.lie = lambda header, claims: None
    assert await browser.me(await browser.whole_way())


async def test_an_answer_that_another_browser_began_is_refused(
    browser: Browser, url: str, provider: Provider
) -> None:
    victim = Browser(url)
    await victim.start()
    mine = await browser.at_provider(await browser.start())
    assert_refused(await victim.back(mine), "ERR_207")  # login CSRF: state of somebody else
    assert_refused(await victim.back(mine, binding=""), "ERR_207")
    assert_refused(await victim.back(mine, binding="x" * 43), "ERR_207")
    fields = dict(parse_qsl(urlsplit(mine).query))
    for wrong in (
        {"state": ""}, {"state": "x"}, {"code": "x"}, {"iss": "https://evil.example"},
    ):  # fmt: skip
        assert_refused(
            await browser.back(f"/auth/oidc/callback?{urlencode(fields | wrong)}"), "ERR_207"
        )
    assert_refused(await browser.back("/auth/oidc/callback?error=access_denied"), "ERR_207")
    assert "token" in provider.asked
    assert cookie_in(await browser.back(mine), COOKIE)
    assert_refused(await browser.back(mine), "ERR_207")  # a code is good once
    await victim.client.aclose()


async def test_what_goes_to_the_provider_is_bound_and_holds_no_secret(browser: Browser) -> None:
    first = parse_qs(urlsplit(await browser.start()).query)
    second = parse_qs(urlsplit(await browser.start()).query)
    assert first["code_challenge_method"] == ["S256"]
    assert first["scope"] == ["openid profile email"]
    for name in ("state", "nonce", "code_challenge"):
        assert first[name] != second[name]
    assert SECRET not in str(first)


async def test_a_new_key_of_the_provider_is_found_when_it_is_used(
    browser: Browser, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await browser.me(await browser.whole_way())
    provider.key = fresh_key("second")
    monkeypatch.setattr("handlers.identity.provider.AGAIN_S", 0.0)
    assert await browser.me(await browser.whole_way())


async def test_a_provider_that_is_not_itself_or_not_there_is_not_asked(
    browser: Browser, url: str, provider: Provider
) -> None:
    start = "/auth/oidc/start"
    for wrong in (
        {"issuer": "https://evil.example"},
        {"authorization_endpoint": "http://evil.example/authorize"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"authorization_endpoint": None},
        {"padding": "x" * 300_000},
    ):
        provider.discovery = wrong
        answer = await browser.client.get(start)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "ERR_600"), wrong


@pytest.mark.parametrize(
    "evil",
    ["//evil.example", "/\\evil.example", "https://evil.example", "evil", "", "/a\\b", "/a b",
     "/\tx", "/é", "javascript:alert(1)", "/" + "x" * 5000, "\\\\evil.example"],
)  # fmt: skip
def test_the_way_on_is_always_a_path_of_ours(evil: str) -> None:
    assert own_path(evil) == "/"
    assert own_path(None) == "/"
    assert own_path("/consent?a=b&c=%2F") == "/consent?a=b&c=%2F"


async def test_who_came_under_another_name_starts_again_under_ours(
    browser: Browser, url: str
) -> None:
    answer = await browser.client.get(
        "/auth/oidc/start?next=/docs", headers={"host": "evil.example"}
    )
    assert answer.headers["location"] == f"{url}/auth/oidc/start?next=%2Fdocs"
    assert cookie_in(answer, BINDING) is None
