"""The signed texts of the auth callout: what the server asks, and what it believes.

They are JWTs in the NATS form (`ed25519-nkey`, keys in base 32), which JWT libraries do not write.
See the NATS decision ADR-26.
"""

import base64
import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import nkeys

from handlers.credentials.rules import Rights

ACCOUNT = "INTEGRATORS"
LIFE_MAX = timedelta(hours=24)


@dataclass(frozen=True)
class Login:
    """Somebody at the gate: `server` asks, `nkey` is what it calls the connection."""

    server: str
    nkey: str
    user: str
    password: str


def read(data: bytes) -> Login:
    """What the server asks. Only servers publish in the account that this comes from.

    Raises:
        ValueError, KeyError: It is not of the protocol's form.
    """
    _, body, _ = data.split(b".")
    asked: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + b"=="))["nats"]
    given = asked["connect_opts"]
    return Login(
        server=asked["server_id"]["id"],
        nkey=asked["user_nkey"],
        user=given.get("user") or "",
        password=given.get("pass") or "",
    )


class Issuer:
    """Signs with the key that the server's configuration names."""

    def __init__(self, seed: str) -> None:
        self._pair = nkeys.from_seed(bytearray(seed.encode()))
        self._name = self._pair.public_key.decode()

    def admit(self, login: Login, rights: Rights, until: datetime | None, now: datetime) -> bytes:
        """Let in, with these rights, until then at most."""
        latest = now + LIFE_MAX
        ends = min(latest, until) if until is not None else latest
        user = self._sign(
            sub=login.nkey, aud=ACCOUNT, name=f"{login.user}.{rights.digest}",
            exp=int(ends.timestamp()),
            nats={
                "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1,
                "pub": {"allow": rights.publish}, "sub": {"allow": rights.subscribe},
            },
        )  # fmt: skip
        return self._answer(login, {"jwt": user.decode()})

    def refuse(self, login: Login) -> bytes:
        """Keep out; the reason stays here."""
        return self._answer(login, {"error": "not admitted"})

    def _answer(self, login: Login, said: dict[str, str]) -> bytes:
        nats = {"type": "authorization_response", "version": 2, **said}
        return self._sign(sub=login.nkey, aud=login.server, nats=nats)

    def _sign(self, **claims: Any) -> bytes:
        claims |= {
            "iss": self._name,
            "iat": int(datetime.now(UTC).timestamp()),
            "jti": secrets.token_hex(16),
        }
        text = encoded({"typ": "JWT", "alg": "ed25519-nkey"}) + b"." + encoded(claims)
        return text + b"." + unpadded(self._pair.sign(text))


def encoded(value: dict[str, Any]) -> bytes:
    """JSON in URL-safe base 64."""
    return unpadded(json.dumps(value).encode())


def unpadded(data: bytes) -> bytes:
    """URL-safe base 64 without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")
