"""Forged and stale access tokens: 401 with one message, nothing fetched, nothing broken."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from schemas.identity import signing
from schemas.identity.sessions import Session
from schemas.identity.signing import RotateSigningKey
from tests.conftest import eventually
from tests.security.forging import SigningPair, claims_of, newest_pair, signing_pair, token_of
from tests.security.world import Person, World, bearer

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOOK = "http://127.0.0.1:{port}/keys.json"


def part(value: Any) -> str:
    """One part of a token: base64url of its JSON, or of bytes."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def raw_token(header: Any, claims: Any, sign: Callable[[bytes], bytes]) -> str:
    """A token that no library would make."""
    signed = f"{part(header)}.{part(claims)}"
    return f"{signed}.{part(sign(signed.encode()))}"


class Attacker:
    """Knows everything but the private key; and, where a test says so, that too."""

    def __init__(self, world: World, pair: SigningPair, session: Session, port: int) -> None:
        self.world, self.pair, self.session = world, pair, session
        self.hook = HOOK.format(port=port)
        self.own = Ed25519PrivateKey.generate()
        self.header = {"alg": "EdDSA", "typ": "at+jwt", "kid": pair.kid}

    def claims(self, **changed: Any) -> dict[str, Any]:
        """Of a good token, but for what is changed."""
        return claims_of(self.world, self.session, **changed)

    def rightly_signed(self, claims: dict[str, Any], **header: Any) -> str:
        """Signed by the platform's own key."""
        return token_of(self.pair, claims, **header)

    def raw(self, header: dict[str, Any], claims: Any, sign: Any = None) -> str:
        """Signed by the platform's own key unless otherwise, whatever the header says."""
        return raw_token(self.header | header, claims, sign or self.pair.private.sign)

    def with_public_key_as_secret(self, algorithm: str, encoding: Encoding, form: Any) -> str:
        """HMAC under the public key, which everybody has."""
        public = self.pair.private.public_key().public_bytes(encoding, form)
        digest = {"HS256": hashlib.sha256, "HS512": hashlib.sha512}[algorithm]
        return self.raw({"alg": algorithm}, self.claims(),
                        lambda signed: hmac.digest(public, signed, digest))  # fmt: skip


Forge = Callable[[Attacker], str]
NOW = int(time.time())
RAW, SPKI = PublicFormat.Raw, PublicFormat.SubjectPublicKeyInfo


def own_jwk(a: Attacker) -> dict[str, str]:
    """The attacker's public key, to be found in the token itself."""
    raw = a.own.public_key().public_bytes(Encoding.Raw, RAW)
    return {"kty": "OKP", "crv": "Ed25519", "x": part(raw), "kid": a.pair.kid}


def doubled(a: Attacker) -> str:
    """Claims in which the expiry stands twice, the good one first."""
    text = json.dumps(a.claims(exp=NOW - 60))
    return a.raw({}, (text[:-1] + f',"exp":{NOW + 3600}}}').encode())


FORGERIES: dict[str, Forge] = {
    "alg none": lambda a: a.raw({"alg": "none"}, a.claims(), lambda _: b""),
    "alg None": lambda a: a.raw({"alg": "None"}, a.claims(), lambda _: b""),
    "alg nOnE, signed": lambda a: a.raw({"alg": "nOnE"}, a.claims()),
    "alg empty": lambda a: a.raw({"alg": ""}, a.claims()),
    "alg a list": lambda a: a.raw({"alg": ["EdDSA", "none"]}, a.claims()),
    "HS256 by the public PEM": lambda a: a.with_public_key_as_secret("HS256", Encoding.PEM, SPKI),
    "HS256 by the public bytes": lambda a: a.with_public_key_as_secret("HS256", Encoding.Raw, RAW),
    "HS512 by the public PEM": lambda a: a.with_public_key_as_secret("HS512", Encoding.PEM, SPKI),
    "ES256 with r = s = 0": lambda a: a.raw({"alg": "ES256"}, a.claims(), lambda _: bytes(64)),
    "ES256 of another key": lambda a: jwt.encode(
        a.claims(), ec.generate_private_key(ec.SECP256R1()), "ES256", headers=a.header | {"alg": "ES256"}
    ),
    "EdDSA with a zero signature": lambda a: a.raw({}, a.claims(), lambda _: bytes(64)),
    "another key under our kid": lambda a: a.raw({}, a.claims(), a.own.sign),
    "kid a path": lambda a: a.raw({"kid": "../../../../dev/null"}, a.claims(), a.own.sign),
    "kid SQL": lambda a: a.raw({"kid": "' UNION SELECT 'x"}, a.claims(), a.own.sign),
    "kid a URL": lambda a: a.raw({"kid": a.hook}, a.claims(), a.own.sign),
    "kid a number": lambda a: a.raw({"kid": 1}, a.claims()),
    "no kid": lambda a: raw_token({"alg": "EdDSA", "typ": "at+jwt"}, a.claims(), a.pair.private.sign),
    "jku": lambda a: a.raw({"jku": a.hook}, a.claims(), a.own.sign),
    "jku, rightly signed": lambda a: a.raw({"jku": a.hook}, a.claims()),
    "x5u": lambda a: a.raw({"x5u": a.hook}, a.claims()),
    "jwk": lambda a: a.raw({"jwk": own_jwk(a)}, a.claims(), a.own.sign),
    "crit": lambda a: a.raw({"crit": ["exp"]}, a.claims()),
    "b64 false": lambda a: a.raw({"b64": False, "crit": ["b64"]}, a.claims()),
    "zip": lambda a: a.raw({"zip": "DEF"}, a.claims()),
    "typ JWT": lambda a: a.rightly_signed(a.claims(), typ="JWT"),
    "no typ": lambda a: a.rightly_signed(a.claims(), typ=None),
    "typ of another use": lambda a: a.rightly_signed(a.claims(), typ="logout+jwt"),
    "foreign audience": lambda a: a.rightly_signed(a.claims(aud="https://elsewhere.test")),
    "two audiences": lambda a: a.rightly_signed(a.claims(aud=["story-portal", "elsewhere"])),
    "no audience": lambda a: a.rightly_signed(a.claims(aud=None)),
    "foreign issuer": lambda a: a.rightly_signed(a.claims(iss="https://elsewhere.test")),
    "no issuer": lambda a: a.rightly_signed(a.claims(iss=None)),
    "expired": lambda a: a.rightly_signed(a.claims(exp=NOW - 1)),
    "no expiry": lambda a: a.rightly_signed(a.claims(exp=None)),
    "expiry a text": lambda a: a.rightly_signed(a.claims(exp="never")),
    "expiry without end": lambda a: a.raw({}, a.claims(exp=float("inf"))),
    "not yet good": lambda a: a.rightly_signed(a.claims(nbf=int(time.time()) + 600)),
    "issued in the future": lambda a: a.rightly_signed(a.claims(iat=int(time.time()) + 600)),
    "no session": lambda a: a.rightly_signed(a.claims(sid=None)),
    "a session that is not": lambda a: a.rightly_signed(a.claims(sid=a.world.platform.clock.new_id())),
    "a session that is no id": lambda a: a.rightly_signed(a.claims(sid="' OR 1=1 --")),
    "a session that is a list": lambda a: a.rightly_signed(a.claims(sid=[a.session.id])),
    "expiry twice": doubled,
    "truncated signature": lambda a: a.rightly_signed(a.claims())[:-10],
    "longer signature": lambda a: a.rightly_signed(a.claims()) + "AAAA",
    "no signature": lambda a: a.rightly_signed(a.claims()).rpartition(".")[0] + ".",
    "a token in a token": lambda a: a.raw({"cty": "JWT"}, a.rightly_signed(a.claims()).encode()),
    "claims a token's text": lambda a: a.raw({}, a.rightly_signed(a.claims()).encode()),
    "claims a list": lambda a: a.raw({}, [a.claims()]),
    "claims not JSON": lambda a: a.raw({}, b"\xff\xfe{"),
    "header not JSON": lambda a: "!!!." + a.rightly_signed(a.claims()).partition(".")[2],
    "nested without end": lambda a: a.raw({}, b'{"a":' * 600),
    "100 KB": lambda a: a.rightly_signed(a.claims(scope="x" * 20_000)),
}  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def person(world: World) -> Person:
    return await world.person("developer")


class Listener:
    """A port that notes whoever connects to it."""

    def __init__(self) -> None:
        self.connections = 0

    def __call__(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.close()


async def test_no_forged_token_opens_anything_and_nothing_is_fetched_for_one(
    world: World, person: Person
) -> None:
    signed, listener = await world.sign_in(person), Listener()
    server = await asyncio.start_server(listener, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    attacker = Attacker(world, await signing_pair(world), signed.session, port)
    good = attacker.rightly_signed(attacker.claims())
    answers: dict[str, tuple[int, Any]] = {}
    for name, forge in FORGERIES.items():
        answer = await world.http().get("/auth/me", headers=bearer(forge(attacker)))
        error = answer.json()["error"] if answer.is_error else answer.text
        answers[name] = (answer.status_code, error["message"] if answer.is_error else error)
    nobody = (await world.http().get("/auth/me")).json()["error"]["message"]
    assert {n: a for n, a in answers.items() if a != (401, nobody)} == {}
    assert (await world.http().get("/auth/me", headers=bearer(good))).status_code == 200
    assert listener.connections == 0
    server.close()
    await server.wait_closed()


async def test_a_token_that_no_header_can_hold_is_refused_before_it_is_read(
    world: World, person: Person
) -> None:
    answer = await world.http().get("/auth/me", headers=bearer("a.b." + "x" * 100_000))
    assert answer.status_code in (401, 431)


async def test_forged_tokens_close_a_socket_with_4401(world: World, person: Person) -> None:
    signed = await world.sign_in(person)
    attacker = Attacker(world, await signing_pair(world), signed.session, 1)
    for name in ("alg none", "another key under our kid", "expired", "jwk"):
        async with world.socket() as opened:
            await opened.send(json.dumps({"op": "auth", "token": FORGERIES[name](attacker)}))
            await opened.wait_closed()
            assert opened.close_code == 4401, name


async def test_a_token_is_good_until_its_hour_is_over_and_not_a_second_longer(
    world: World, person: Person
) -> None:
    session, pair = (await world.sign_in(person)).session, await signing_pair(world)
    statuses = []
    for age_s in (0, 3540, 3601):
        at = int(time.time()) - age_s
        claims = claims_of(world, session, iat=at, nbf=at, exp=at + 3600, jti=str(age_s))
        answer = await world.http().get("/auth/me", headers=bearer(token_of(pair, claims)))
        statuses.append(answer.status_code)
    assert statuses == [200, 200, 401]


async def test_keys_are_replaced_under_load_and_no_good_token_is_refused(
    world: World, person: Person
) -> None:
    """Tokens of the old key, and of the new one from the moment it is published."""
    session, before = (await world.sign_in(person)).session, await signing_pair(world)
    pairs, statuses, over = [before], list[int](), asyncio.Event()

    async def ask_on(edge: int) -> None:
        client, number = world.http(edge), 0
        while not over.is_set():
            number += 1
            claims = claims_of(world, session, jti=f"{edge}/{number}")
            token = token_of(pairs[number % len(pairs)], claims)
            statuses.append((await client.get("/auth/me", headers=bearer(token))).status_code)

    async def asked(count: int) -> None:
        enough = len(statuses) + count

        async def many() -> bool:
            return len(statuses) >= enough

        await eventually(many)

    asking = [asyncio.create_task(ask_on(edge)) for edge in (0, 1, 0)]
    await asked(30)
    await world.admin(signing.rotate_signing_key, RotateSigningKey())
    pairs.append(await newest_pair(world))
    await asked(60)
    over.set()
    await asyncio.gather(*asking)
    assert len({pair.kid for pair in pairs}) == 2
    assert set(statuses) == {200}


async def test_a_compromised_key_ends_with_its_tokens_on_every_edge_within_a_second(
    world: World, person: Person
) -> None:
    signed = await world.sign_in(person)
    assert signed.tokens is not None
    shown, stolen = bearer(signed.tokens.access_token), await signing_pair(world)
    clients = [world.http(edge) for edge in (0, 1)]
    assert [(await c.get("/auth/me", headers=shown)).status_code for c in clients] == [200, 200]
    await world.admin(signing.rotate_signing_key, RotateSigningKey(compromised=True))

    async def refused() -> bool:
        answers = [await c.get("/auth/me", headers=shown) for c in clients]
        return [a.status_code for a in answers] == [401, 401]

    await eventually(refused, timeout_s=1)
    fresh = token_of(stolen, claims_of(world, signed.session, jti="fresh"))
    assert (await clients[0].get("/auth/me", headers=bearer(fresh))).status_code == 401
    tokens = (await world.sign_in(person)).tokens
    assert tokens is not None
    again = await clients[1].get("/auth/me", headers=bearer(tokens.access_token))
    assert again.status_code == 200
