"""Sign-in by an external OpenID Connect provider.

A person is known by (issuer, subject), never by a mail address or login, which others may get.
What start and finish have in common is one random text in the browser's cookie: state, nonce and
the PKCE verifier are computed from it, so nothing is stored meanwhile.
"""

from typing import Annotated

from pydantic import Field, StringConstraints

from schemas.contract import Event, Id, Operation, Problem, Schema, Secret
from schemas.identity.sessions import SessionStarted, SignedIn
from schemas.identity.users import User, UserCreated
from schemas.problems import NotFound, Unauthenticated, Unavailable, VersionConflict

EXCHANGE_S = 15.0

Subject = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,255}$")]
Bound = Annotated[Secret, Field(min_length=32, max_length=100)]


class StartExternal(Schema):
    """Ask where the browser goes to sign in at the provider."""

    bound: Bound


class Started(Schema):
    """The provider's page, with everything that binds its answer to this browser."""

    location: str


class FinishExternal(Schema):
    """Sign in with what the provider has sent the browser back with."""

    bound: Bound
    code: Secret = Field(max_length=4096)
    state: str = Field(max_length=500)
    iss: str | None = Field(None, max_length=500)


class LinkExternal(Schema):
    """Let a user sign in as this subject of the provider."""

    id: Id
    subject: Subject = Field(description="The claim `sub` of the provider's ID tokens.")


class UnlinkExternal(Schema):
    """A user no longer signs in through the provider; open sessions stay."""

    id: Id


class ExternalLinked(Event, name="identity.external_linked"):
    """Through which account of the provider a user signs in has changed."""

    user: User


class NoProvider(Problem, code="ERR_182", status=409):
    """No external provider is configured."""


class SubjectTaken(Problem, code="ERR_183", status=409, constraint="external_accounts_subject_key"):
    """This subject of the provider belongs to a user already."""


class NotFromProvider(Problem, code="ERR_207", status=401):
    """What the browser brought is not a good answer of the provider to this sign-in."""


class NotInvited(Problem, code="ERR_305", status=403):
    """The provider knows you, but nobody has given you an account here."""


start_external = Operation(
    "identity.start-external", StartExternal, Started, public=True,
    problems=(NoProvider, Unavailable), timeout_s=EXCHANGE_S,
)  # fmt: skip
finish_external = Operation(
    "identity.finish-external", FinishExternal, SignedIn, public=True,
    problems=(
        NoProvider, NotFromProvider, NotInvited, Unauthenticated, Unavailable, VersionConflict,
    ),
    emits=(SessionStarted, UserCreated), idempotent=True, commits_itself=True,
    timeout_s=EXCHANGE_S,
)  # fmt: skip
link_external = Operation(
    "identity.link-external", LinkExternal, User, rest="PUT /users/{id}/external",
    may="users:grant", problems=(NotFound, NoProvider, SubjectTaken, VersionConflict),
    emits=(ExternalLinked,), idempotent=True,
)  # fmt: skip
unlink_external = Operation(
    "identity.unlink-external", UnlinkExternal, User, rest="DELETE /users/{id}/external",
    may="users:grant", problems=(NotFound, VersionConflict), emits=(ExternalLinked,),
    idempotent=True,
)  # fmt: skip
