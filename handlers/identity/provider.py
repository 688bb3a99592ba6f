"""The external OpenID Connect provider: its documents, the exchange of a code, its ID tokens.

    discovery (10 min) ─► token endpoint: code + verifier ─► ID token ─► keys (10 min) ─► claims

Everything that it sends is limited in size and time, and fetched over TLS unless it is on this
machine. A key that is not known is looked for again, at most every half minute.
"""

import hashlib
import hmac
import ssl
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx2
import orjson
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from authlib.oidc.discovery import get_well_known_url
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from joserfc.jws import extract_compact

from bus.settings import Settings
from schemas.identity.clients import LOOPBACK
from schemas.identity.external import NoProvider, NotFromProvider
from schemas.problems import Unavailable

ALGORITHMS = ["RS256", "PS256", "ES256", "ES384", "EdDSA", "Ed25519"]
BYTES_MAX = 256 * 1024
KEPT_S = 600.0
AGAIN_S = 30.0
SKEW_S = 60
TIMEOUT = httpx2.Timeout(5.0, connect=3.0)
OK = 200
CALLBACK = "/auth/oidc/callback"
SCOPE = "openid profile email"


def derived(bound: str, purpose: str) -> str:
    """State, nonce or verifier of the sign-in that a browser's cookie belongs to."""
    return hmac.digest(bound.encode(), f"oidc {purpose}".encode(), hashlib.sha256).hex()


@dataclass
class Kept:
    """A document, and when it was read."""

    content: dict[str, Any] = field(default_factory=dict)
    at: float = -KEPT_S

    def fresh(self, for_s: float) -> bool:
        """Whether it may still be used."""
        return bool(self.content) and time.monotonic() - self.at < for_s


class Provider:
    """One provider, for as long as the process lives."""

    def __init__(self, settings: Settings) -> None:
        if settings.oidc_issuer is None or settings.oidc_client_id is None:
            raise NoProvider
        self.issuer, self.client_id = settings.oidc_issuer, settings.oidc_client_id
        self._secret = settings.oidc_client_secret
        self._back = settings.public_url + CALLBACK
        self._discovery, self._keys = Kept(), Kept()

    async def location(self, bound: str) -> str:
        """The page at which the browser signs in."""
        query = {
            "response_type": "code", "client_id": self.client_id, "redirect_uri": self._back,
            "scope": SCOPE, "state": derived(bound, "state"), "nonce": derived(bound, "nonce"),
            "code_challenge": create_s256_code_challenge(derived(bound, "verifier")),
            "code_challenge_method": "S256",
        }  # fmt: skip
        page = await self._endpoint("authorization_endpoint")
        return f"{page}{'&' if '?' in page else '?'}{urlencode(query)}"

    async def claims(self, code: str, bound: str) -> dict[str, Any]:
        """Who has signed in, by a code that came back to the browser of this cookie.

        Raises:
            NotFromProvider: The code, or what it was exchanged for, is not good.
            Unavailable: The provider does not answer as it should.
        """
        form = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": self._back,
            "client_id": self.client_id, "code_verifier": derived(bound, "verifier"),
        }  # fmt: skip
        if self._secret is not None:
            form["client_secret"] = self._secret.get_secret_value()
        status, answer = await self._fetch(await self._endpoint("token_endpoint"), form)
        if status != OK or not isinstance(answer.get("id_token"), str):
            raise NotFromProvider("The provider did not take the code.")
        return await self._verified(answer["id_token"], derived(bound, "nonce"))

    async def _verified(self, text: str, nonce: str) -> dict[str, Any]:
        """The claims of an ID token that is meant for us and for this sign-in."""
        try:
            token = jwt.decode(text, await self._key_set(text), algorithms=ALGORITHMS)
            claims = CodeIDToken(
                token.claims, token.header,
                {"iss": {"essential": True, "value": self.issuer},
                 "aud": {"essential": True, "value": self.client_id},
                 "sub": {"essential": True}},
                {"nonce": nonce, "client_id": self.client_id},
            )  # fmt: skip
            claims.validate(leeway=SKEW_S)
        except (JoseError, ValueError, TypeError, KeyError) as bad:
            raise NotFromProvider(f"The ID token is not good: {type(bad).__name__}.") from None
        return dict(claims)

    async def _key_set(self, text: str) -> KeySet:
        """The provider's keys, read again when the token names one that is not there."""
        header = jwt_header(text)
        known = [key.get("kid") for key in self._keys.content.get("keys", ())]
        for_s = KEPT_S if header.get("kid") in known else AGAIN_S
        if not self._keys.fresh(for_s):
            status, content = await self._fetch(await self._endpoint("jwks_uri"))
            if status != OK or not isinstance(content.get("keys"), list):
                raise Unavailable("The provider shows no keys.")
            self._keys = Kept(content, time.monotonic())
        return KeySet.import_key_set(self._keys.content)  # type: ignore[arg-type]

    async def _endpoint(self, name: str) -> str:
        """An address that the provider's discovery document names."""
        if not self._discovery.fresh(KEPT_S):
            status, content = await self._fetch(get_well_known_url(self.issuer, external=True))
            if status != OK or content.get("issuer") != self.issuer:
                raise Unavailable("The provider's discovery document is not its own.")
            self._discovery = Kept(content, time.monotonic())
        address = self._discovery.content.get(name)
        if not isinstance(address, str):
            raise Unavailable(f"The provider names no {name}.")
        return safe(address)

    async def _fetch(
        self, address: str, form: dict[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Status and JSON object of an answer."""
        method = "GET" if form is None else "POST"
        headers = {"accept": "application/json"}
        try:
            async with (
                httpx2.AsyncClient(
                    timeout=TIMEOUT, trust_env=False, verify=ssl.create_default_context()
                ) as client,
                client.stream(method, safe(address), data=form, headers=headers) as answer,
            ):
                body = b""
                async for piece in answer.aiter_bytes():
                    body += piece
                    if len(body) > BYTES_MAX:
                        raise Unavailable("The provider's answer is too long.")
                content = orjson.loads(body)
        except (httpx2.HTTPError, orjson.JSONDecodeError) as failure:
            raise Unavailable(f"The provider: {type(failure).__name__}.") from None
        return answer.status_code, content if isinstance(content, dict) else {}


def safe(address: str) -> str:
    """The address, if secrets may be sent there.

    Raises:
        Unavailable: It is neither https nor on this machine.
    """
    parts = urlsplit(address)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK):
        return address
    raise Unavailable("The provider must be reached over https.")


def jwt_header(text: str) -> dict[str, Any]:
    """The header of a token, not verified."""
    return dict(extract_compact(text.encode()).headers())
