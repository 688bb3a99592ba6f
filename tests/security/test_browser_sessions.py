"""Cookies, foreign pages and other origins: what a browser may be made to do, and what not."""

import itertools
from http.cookies import SimpleCookie

import pytest
import pytest_asyncio
from websockets import ConnectionClosed
from websockets.exceptions import InvalidStatus

from schemas import catalogue
from schemas.identity import sessions
from schemas.identity.sessions import SignedIn
from tests.conftest import eventually
from tests.security.world import (
    OURS,
    PASSWORD,
    Headers,
    Person,
    World,
    bearer,
    cookie,
    frame_of,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

NO_SUCH = "0192f0c1-0000-7000-8000-000000000000"
UNSAFE = [
    o for o in catalogue.operations()
    if o.route is not None and o.route.method != "GET" and not o.public
]  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def person(world: World) -> Person:
    return await world.person("admin")


@pytest_asyncio.fixture(loop_scope="module")
async def signed(world: World, person: Person) -> SignedIn:
    return await world.sign_in(person, browser=True)


async def test_the_cookie_has_exactly_these_flags_and_stands_in_no_body(world, person) -> None:
    body = {"login": person.user.login, "password": PASSWORD, "browser": True}
    answer = await world.http().post("/auth/login", json=body)
    [header] = answer.headers.get_list("set-cookie")
    value, *flags = header.split("; ")
    name, _, text = value.partition("=")
    assert name == "__Host-portal"
    assert sorted(flags) == sorted(
        ["Path=/", "Max-Age=604800", "Secure", "HttpOnly", "SameSite=Lax"]
    )
    assert text not in answer.text
    assert "cookie" not in answer.json()
    assert answer.json()["tokens"] is None
    assert answer.headers["cache-control"] == "no-store"


async def test_a_cookie_set_before_the_sign_in_is_not_adopted(world, person) -> None:
    planted = await world.sign_in(await world.person("viewer"), browser=True)
    never = "ss_0123456789abcdef_" + "A" * 43 + "_00000000"
    for before in (planted.cookie, never):
        shown = {"cookie": f"__Host-portal={before}"}
        body = {"login": person.user.login, "password": PASSWORD, "browser": True}
        answer = await world.http().post("/auth/login", json=body, headers=shown)
        jar = SimpleCookie(answer.headers["set-cookie"])
        assert jar["__Host-portal"].value != before
        me = await world.http().get("/auth/me", headers=shown)
        assert me.status_code == 401 or me.json()["id"] != person.user.id


async def test_each_sign_in_opens_another_session(world, person) -> None:
    both = [await world.sign_in(person, browser=True) for _ in range(2)]
    assert both[0].cookie != both[1].cookie
    assert both[0].session.id != both[1].session.id


async def test_signing_out_ends_the_cookie_on_both_edges_and_its_socket(world, signed) -> None:
    shown, origin = cookie(signed), {"origin": world.urls[1]}
    clients = [world.http(edge) for edge in (0, 1)]
    assert [(await c.get("/auth/me", headers=shown)).status_code for c in clients] == [200, 200]
    async with world.socket(shown | origin, edge=1) as opened:
        await frame_of(opened, "hello")
        answer = await clients[0].post("/auth/logout", json={}, headers=shown)
        assert answer.status_code == 200
        assert "Max-Age=0" in answer.headers["set-cookie"]

        async def closed() -> bool:
            answers = [await c.get("/auth/me", headers=shown) for c in clients]
            return [a.status_code for a in answers] == [401, 401]

        await eventually(closed, timeout_s=1)
        with pytest.raises(ConnectionClosed):
            await frame_of(opened, "never", timeout_s=1)
        assert opened.close_code == 4401


def sent_by(signed: SignedIn, other: SignedIn, host: str) -> dict[str, Headers]:
    """Requests with a good cookie that no page of ours sends."""
    own = {"cookie": cookie(signed)["cookie"]}
    good = cookie(signed)
    return {
        "no token": own,
        "no token, own origin": own | {"origin": f"http://{host}"},
        "empty token": own | {"x-csrf-token": ""},
        "wrong token": own | {"x-csrf-token": "0" * 64},
        "token of another session": own | {"x-csrf-token": other.csrf or ""},
        "foreign origin": good | {"origin": "https://evil.test"},
        "null origin": good | {"origin": "null"},
        "sub-domain": good | {"origin": f"http://sub.{host}"},
        "our name as a sub-domain": good | {"origin": f"http://{host}.evil.test"},
        "our name as a user": good | {"origin": f"http://{host}@evil.test"},
        "another port": good | {"origin": f"http://{host.partition(':')[0]}:1"},
        "cross-site": good | {"sec-fetch-site": "cross-site"},
        "same-site": good | {"sec-fetch-site": "same-site"},
        "cross-site with a foreign origin": good
        | {"sec-fetch-site": "cross-site", "origin": "https://evil.test"},
        "unknown site": good | {"sec-fetch-site": "x"},
    }


async def test_no_unsafe_operation_obeys_a_page_that_is_not_ours(world, signed, person) -> None:
    other = await world.sign_in(person, browser=True)
    host = world.urls[0].removeprefix("http://")
    attacks, found = sent_by(signed, other, host), []
    client = world.http()
    for operation in UNSAFE:
        world.give_back_limits()
        path = operation.route.path
        for parameter in operation.route.parameters:
            path = path.replace(f"{{{parameter}}}", "x.y" if parameter == "name" else NO_SUCH)
        for name, headers in attacks.items():
            answer = await client.request(operation.route.method, path, headers=headers)
            code = answer.json()["error"]["code"]
            if (answer.status_code, code) != (403, "ERR_304"):
                found.append(f"{operation.name}, {name}: {answer.status_code} {code}")
    assert UNSAFE
    assert found == []


async def test_our_own_pages_are_obeyed(world, signed) -> None:
    host = world.urls[0]
    for headers in (
        {}, {"origin": host}, {"origin": host, "sec-fetch-site": "same-origin"},
        {"origin": OURS}, {"origin": OURS, "sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "none"},
    ):  # fmt: skip
        answer = await world.http().post(
            "/grants", params={"x": 1}, headers=cookie(signed) | headers
        )
        assert answer.json()["error"]["code"] == "ERR_100", headers


async def test_a_page_learns_its_token_after_a_reload_and_only_for_its_own_cookie(
    world, signed
) -> None:
    me = await world.http().get("/auth/me", headers={"cookie": cookie(signed)["cookie"]})
    assert me.headers["x-csrf-token"] == signed.csrf
    evil = await world.http().get(
        "/auth/me",
        headers={"cookie": cookie(signed)["cookie"], "origin": "https://evil.test"},
    )
    assert "access-control-allow-origin" not in evil.headers


async def test_a_form_of_a_foreign_page_cannot_sign_in(world, person) -> None:
    """Signing somebody in to the attacker's account needs a JSON body, and so a preflight."""
    body = f'{{"login":"{person.user.login}","password":"{PASSWORD}","browser":true}}'
    for kind in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
    ):
        answer = await world.http().post(
            "/auth/login", content=body, headers={"content-type": kind}
        )
        assert answer.status_code == 415
        assert "set-cookie" not in answer.headers


async def test_a_bad_credential_beside_a_good_cookie_is_401(world, signed) -> None:
    good = cookie(signed)
    for bad in (
        bearer("sp_0123456789abcdef_" + "A" * 43 + "_00000000"), bearer("a.b.c"), {"authorization": "Bearer"},
        {"authorization": "Basic dXNlcjpwYXNz"}, {"authorization": ""},
        {"x-api-key": "nonsense"}, bearer(signed.cookie), {"x-api-key": signed.cookie},
    ):  # fmt: skip
        answer = await world.http().get("/auth/me", headers=good | bad)
        assert answer.status_code == 401, bad


async def test_a_good_token_beside_a_cookie_is_used_alone(world, signed) -> None:
    """The cookie is not looked at: no CSRF token is asked for, and no right of it is lent."""
    viewer = await world.sign_in(await world.person("viewer"))
    headers = {"cookie": cookie(signed)["cookie"]} | bearer(viewer.tokens.access_token)
    me = await world.http().get("/auth/me", headers=headers)
    assert me.json()["id"] == viewer.user.id
    denied = await world.http().post("/users", json={}, headers=headers)
    assert denied.json()["error"]["code"] == "ERR_300"


async def test_two_different_credentials_in_headers_are_none(world, signed) -> None:
    one = await world.sign_in(await world.person("viewer"))
    two = await world.sign_in(await world.person("viewer"))
    headers = bearer(one.tokens.access_token) | {"x-api-key": two.tokens.access_token}
    assert (await world.http().get("/auth/me", headers=headers)).status_code == 401


async def test_no_url_carries_a_credential(world, signed) -> None:
    tokens = (await world.sign_in(await world.person("viewer"))).tokens
    names = ("token", "access_token", "api_key", "key", "authorization", "session", "__Host-portal")
    for name, text in itertools.product(names, (tokens.access_token, signed.cookie)):
        world.give_back_limits()
        answer = await world.http().get("/auth/me", params={name: text})
        assert answer.status_code == 401, name
        url = world.urls[0].replace("http", "ws", 1) + f"/api/v1/ws?{name}={text}"
        async with world.socket(uri=url) as opened:
            await opened.send('{"op":"ping"}')
            await opened.wait_closed()
            assert opened.close_code == 4401, name


@pytest.mark.parametrize(
    "origin", ["https://evil.test", "null", "http://sub.portal.test", "", None]
)
async def test_a_socket_with_a_cookie_opens_only_from_our_own_pages(world, signed, origin) -> None:
    headers = cookie(signed) | ({} if origin is None else {"origin": origin})
    with pytest.raises(InvalidStatus) as refused:
        async with world.socket(headers):
            pass
    assert refused.value.response.status_code == 403


async def test_a_socket_takes_no_cookie_as_its_first_frame(world, signed) -> None:
    async with world.socket() as opened:
        await opened.send(f'{{"op":"auth","token":"{signed.cookie}"}}')
        await opened.wait_closed()
        assert opened.close_code == 4401


@pytest.mark.parametrize(
    "origin",
    ["null", "https://evil.test", "https://portal.test.evil.test", "https://sub.portal.test",
     "http://portal.test", "https://portal.test:8443", "*", "file://"],
)  # fmt: skip
async def test_another_origin_may_read_nothing(world, signed, origin) -> None:
    preflight = {"origin": origin, "access-control-request-method": "POST"}
    for answer in (
        await world.http().get("/auth/me", headers=cookie(signed) | {"origin": origin}),
        await world.http().options("/users", headers=preflight),
    ):
        assert [h for h in answer.headers if h.startswith("access-control-")] == []
        assert "Origin" in answer.headers["vary"]


async def test_an_origin_of_ours_may_read_without_cookies(world) -> None:
    headers = {"origin": OURS, "access-control-request-method": "PUT"}
    answer = await world.http().options("/users", headers=headers)
    assert answer.headers["access-control-allow-origin"] == OURS
    assert "*" not in answer.headers["access-control-allow-methods"]
    assert "access-control-allow-credentials" not in answer.headers


async def test_a_session_is_over_for_who_signs_in_with_its_cookie_later(world, signed) -> None:
    await world.admin(sessions.end_session, sessions.EndSession(id=signed.session.id))

    async def over() -> bool:
        return (await world.http().get("/auth/me", headers=cookie(signed))).status_code == 401

    await eventually(over, timeout_s=1)
