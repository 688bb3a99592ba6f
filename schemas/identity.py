"""Identity: who a credential stands for."""

from typing import Annotated

from pydantic import StringConstraints

from schemas.contract import Operation, Schema
from schemas.principal import Principal
from schemas.problems import Unauthenticated


class ResolveKey(Schema):
    """Find out whom an API key stands for."""

    key_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-z]{16}$")]
    secret_hash: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class WhoAmI(Schema):
    """Show the principal that the credential of this request stands for."""


resolve_key = Operation(
    "identity.resolve-key", ResolveKey, Principal, problems=(Unauthenticated,), timeout_s=2
)
me = Operation("identity.me", WhoAmI, Principal, rest="GET /auth/me", timeout_s=2)
