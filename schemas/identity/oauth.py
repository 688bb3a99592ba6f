"""OAuth 2: what a client asks of a person, and what it gets for it.

The forms of RFC 6749, 7009 and 7662 are not ours, so these operations have no REST route: the edge
has a door of its own for each (`edge/oauth.py`), and only the person's decision is one.
"""

from typing import Annotated

from pydantic import Field, StringConstraints

from schemas.contract import KNOWN, Operation, Problem, Schema, Secret
from schemas.identity.sessions import SessionEnded, SessionStarted, Tokens
from schemas.problems import Denied, VersionConflict

CODE_S = 60
FIELDS_MAX = 20
FIELD_CHARACTERS_MAX = 4096

FieldName = Annotated[str, StringConstraints(min_length=1, max_length=100)]
FieldText = Annotated[Secret, Field(max_length=FIELD_CHARACTERS_MAX)]
Parameter = Annotated[str, StringConstraints(max_length=FIELD_CHARACTERS_MAX)]


class AuthorizationRequest(Schema):
    """The parameters with which a client sends a person to us (RFC 6749 4.1.1, RFC 7636)."""

    response_type: Parameter | None = None
    client_id: Parameter | None = None
    redirect_uri: Parameter | None = None
    scope: Parameter | None = None
    state: Parameter | None = None
    code_challenge: Parameter | None = None
    code_challenge_method: Parameter | None = None


class LookAtAuthorization(AuthorizationRequest):
    """Show who asks for what on your behalf; only in a browser's session."""


class Wish(Schema):
    """One thing that is asked for."""

    permission: str
    words: str


class Authorization(Schema):
    """What would be allowed, as far as you may do it yourself."""

    client_id: str
    client_name: str
    registered_by: str
    comes_back_to: str
    wishes: tuple[Wish, ...]


class Decide(AuthorizationRequest):
    """Allow or refuse what a client asks for; only in a browser's session."""

    allow: bool


class Decided(Schema):
    """Where the browser goes now."""

    location: str


class Form(Schema):
    """A form that a client has sent, and its `Authorization` header."""

    form: dict[FieldName, FieldText] = Field(max_length=FIELDS_MAX)
    authorization: FieldText | None = None


class AskToken(Form):
    """Exchange a code, a refresh token or a client's own credentials for an access token."""


class RevokeToken(Form):
    """End the session of a client's token (RFC 7009)."""


class IntrospectToken(Form):
    """Ask what a token is worth (RFC 7662)."""


class Revoked(Schema):
    """How many sessions ended; a client is not told."""

    sessions: int


class Introspection(Schema):
    """What a token is worth; of one that is worth nothing, or is not the asker's, only that."""

    active: bool
    scope: str | None = None
    client_id: str | None = None
    username: str | None = None
    token_type: str | None = None
    exp: int | None = None
    iat: int | None = None
    sub: str | None = None
    aud: str | None = None
    iss: str | None = None


class OAuthRefused(Problem, code="ERR_181", status=400):
    """The request is not one that OAuth 2 allows."""


class ClientRefused(Problem, code="ERR_206", status=401):
    """The client is not known, or has not proved to be itself."""


authorization = Operation(
    "identity.authorization", LookAtAuthorization, Authorization, rest="GET /auth/authorization",
    may=KNOWN,
    problems=(OAuthRefused, Denied),
)  # fmt: skip
decide = Operation(
    "identity.decide", Decide, Decided, rest="POST /auth/authorization",
    may=KNOWN,
    problems=(OAuthRefused, Denied, VersionConflict), commits_itself=True,
)  # fmt: skip
token = Operation(
    "identity.token", AskToken, Tokens, public=True,
    problems=(OAuthRefused, ClientRefused, VersionConflict), emits=(SessionStarted, SessionEnded),
    idempotent=True, commits_itself=True,
)  # fmt: skip
revoke_token = Operation(
    "identity.revoke-token", RevokeToken, Revoked, public=True,
    problems=(OAuthRefused, ClientRefused, VersionConflict), emits=(SessionEnded,),
    idempotent=True, commits_itself=True,
)  # fmt: skip
introspect_token = Operation(
    "identity.introspect-token", IntrospectToken, Introspection, public=True,
    problems=(OAuthRefused, ClientRefused),
)  # fmt: skip
