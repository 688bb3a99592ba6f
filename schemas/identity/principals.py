"""Who a credential stands for, and why that may or may not do something."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from schemas.contract import KNOWN, Id, Operation, Schema
from schemas.identity.keys import KeyPrefix, SecretHash
from schemas.policy import Rule, Thing
from schemas.principal import Mandate, Permission, PersonId, Principal, RunRights
from schemas.problems import Denied, NotFound, Unauthenticated

PAGE_OF_RULES = 1000


class WhoAmI(Schema):
    """Show the principal that the credential of this request stands for."""


class ResolveKey(Schema):
    """Find out whom an API key stands for."""

    prefix: KeyPrefix
    secret_hash: SecretHash


class ResolveKeyId(Schema):
    """Find out whom an API key stands for that somebody else has verified."""

    id: Id


class ResolveSession(Schema):
    """Find out whom a browser's session cookie stands for, and that it is in use."""

    prefix: KeyPrefix
    secret_hash: SecretHash


class ResolveToken(Schema):
    """Find out whom a verified access token stands for."""

    session_id: Id
    scopes: tuple[str, ...] = ()
    run: RunRights | None = Field(None, description="Set in the token of an agent's run.")


class Resolved(Schema):
    """Whom a credential stands for, and until when at most."""

    principal: Principal
    until: datetime | None


class ActFor(Schema):
    """Find out what work may do now that somebody has asked for."""

    owner_id: str = Field(max_length=64)
    mandate: Mandate | None = Field(
        None, description="What was left to the work; without one, a user's roles as they are now."
    )


class FindPerson(Schema):
    """Find out whether somebody is there who can be given something to do."""

    id: PersonId


class Person(Schema):
    """An active user, or who is none and has a good API key, as the first key's `admin`."""

    id: str
    name: str


class ListRules(Schema):
    """Read all grants as decisions need them, a thousand at a time."""

    after: Id | None = None


class Rules(Schema):
    """Grants in the order of their ids; `next` goes on behind the last."""

    items: tuple[Rule, ...]
    next: Id | None = None


class Explain(Schema):
    """Explain why somebody may or may not do something."""

    permission: Permission
    thing: Thing | None = Field(None, description="The id or name of one thing.")
    owner_id: str | None = Field(None, max_length=64, description="Whose thing it is.")
    user_id: Id | None = Field(None, description="Who; you when empty.")
    key_id: Id | None = Field(None, description="Or which API key.")


class Reason(Schema):
    """One step of a decision: what was weighed, and what it said."""

    rule: Literal["account", "scopes", "deny", "allow", "owner", "role"]
    says: Literal["yes", "no", "nothing"]
    detail: str


class Explanation(Schema):
    """A decision with every step that led to it; the first yes or no decides."""

    principal: Principal
    permission: str
    allowed: bool
    reasons: tuple[Reason, ...]


me = Operation(
    "identity.me", WhoAmI, Principal, rest="GET /auth/me", may=KNOWN, timeout_s=2, runs="directly"
)
resolve_key = Operation(
    "identity.resolve-key", ResolveKey, Resolved, problems=(Unauthenticated,), timeout_s=2,
    internal=True,
)  # fmt: skip
resolve_key_id = Operation(
    "identity.resolve-key-id", ResolveKeyId, Resolved, problems=(Unauthenticated,), timeout_s=2,
    internal=True,
)  # fmt: skip
resolve_session = Operation(
    "identity.resolve-session", ResolveSession, Resolved, problems=(Unauthenticated,), timeout_s=2,
    internal=True,
)  # fmt: skip
resolve_token = Operation(
    "identity.resolve-token", ResolveToken, Resolved, problems=(Unauthenticated,), timeout_s=2,
    internal=True,
)  # fmt: skip
act_for = Operation(
    "identity.act-for", ActFor, Principal, problems=(Unauthenticated,), timeout_s=2, internal=True
)
person = Operation(
    "identity.person", FindPerson, Person, problems=(NotFound,), timeout_s=2, internal=True
)
rules = Operation("identity.rules", ListRules, Rules, internal=True)
explain = Operation(
    "identity.explain", Explain, Explanation, rest="GET /authz/explain", may=KNOWN,
    problems=(NotFound, Denied),
)  # fmt: skip
