"""Problems that any operation may answer; a domain's own stand in its module.

Families: 1xx the request, 2xx who you are, 3xx what you may, 4xx limits, 5xx the work, 6xx the
platform's parts. ERR_001 is "no such thing" everywhere.
"""

from collections.abc import Iterable

from pydantic import ValidationError

from schemas.contract import Problem

BAD_FIELDS_SHOWN = 10


class NotFound(Problem, code="ERR_001", status=404):
    """There is no such thing, or you may not know of it."""


class Malformed(Problem, code="ERR_100", status=400):
    """The request is not of the operation's form."""


class OutsideSchema(Problem, code="ERR_101", status=400):
    """The value does not fit the JSON Schema that was declared for it."""


class BadSchema(Problem, code="ERR_142", status=400):
    """This is not a JSON Schema that can be used here."""


class TooLarge(Problem, code="ERR_103", status=413):
    """The body is larger than this operation accepts."""


class UnsupportedMediaType(Problem, code="ERR_104", status=415):
    """The body has a content type or encoding that this operation does not accept."""


class BodyTooSlow(Problem, code="ERR_105", status=408, retryable=True):
    """The body did not arrive in time."""


class IllegalMove(Problem, code="ERR_110", status=409):
    """The thing is in a state from which this move is not allowed."""


class VersionConflict(Problem, code="ERR_111", status=409, retryable=True):
    """The thing was changed by somebody else; read it again and retry."""


class PreconditionFailed(Problem, code="ERR_113", status=412):
    """If-Match names another version than the current one."""


class KeyReused(Problem, code="ERR_114", status=422):
    """This Idempotency-Key was used before with another request."""


class StillRunning(Problem, code="ERR_115", status=409, retryable=True):
    """The first request with this Idempotency-Key is still running."""


class MethodNotAllowed(Problem, code="ERR_116", status=405):
    """This path does not answer to that method."""


class Unauthenticated(Problem, code="ERR_200", status=401):
    """Send a valid API key or token."""


class Expired(Problem, code="ERR_201", status=401):
    """The credential has expired."""


class Forged(Problem, code="ERR_203", status=401):
    """The credential's signature is not one of ours."""


class Denied(Problem, code="ERR_300", status=403):
    """Your role does not allow this."""


class CrossSite(Problem, code="ERR_304", status=403):
    """A browser's session changes something only from our own pages, with its `X-CSRF-Token`."""


class TooManyRequests(Problem, code="ERR_400", status=429, retryable=True):
    """Too many requests; retry after the time in Retry-After."""


class Overloaded(Problem, code="ERR_401", status=429, retryable=True):
    """The operation's queue is full."""


class Internal(Problem, code="ERR_500", status=500):
    """Something broke on our side; it is logged under the request id."""


class Upstream(Problem, code="ERR_520", status=502, retryable=True):
    """A server behind the platform answered wrongly."""


class Unavailable(Problem, code="ERR_600", status=503, retryable=True):
    """Nobody answers for this operation now."""


class BreakerOpen(Problem, code="ERR_601", status=503, retryable=True):
    """The operation failed too often just now; it is not being asked for some seconds."""


class DependencyDown(Problem, code="ERR_602", status=503, retryable=True):
    """A server that this operation needs is not reachable."""


class Draining(Problem, code="ERR_603", status=503, retryable=True):
    """This process is shutting down; ask again."""


class TimedOut(Problem, code="ERR_610", status=504, retryable=True):
    """The operation did not finish before its deadline."""


ANY_OPERATION: tuple[type[Problem], ...] = (
    Malformed, Unauthenticated, Expired, Forged, Denied, TooManyRequests, Overloaded, Internal,
    Unavailable, BreakerOpen, DependencyDown, Draining, TimedOut,
)  # fmt: skip
"""What every operation may answer without declaring it."""

EDGE_ONLY: tuple[type[Problem], ...] = (
    TooLarge, UnsupportedMediaType, BodyTooSlow, MethodNotAllowed, PreconditionFailed, CrossSite,
)  # fmt: skip
"""What only the HTTP door answers."""

IDEMPOTENCY: tuple[type[Problem], ...] = (KeyReused, StillRunning)
"""What an operation that takes an Idempotency-Key may also answer."""


def malformed(bad: ValidationError, at: str = "") -> Malformed:
    """What is wrong with a request, field by field, without repeating its values.

    Args:
        bad: What its model says.
        at: A JSON pointer to where in the caller's request it stands.
    """
    fields = [
        {
            "field": ".".join(str(part) for part in error["loc"]),
            "pointer": at + pointer_to(error["loc"]),
            "problem": error["msg"],
        }
        for error in bad.errors(include_url=False, include_input=False)[:BAD_FIELDS_SHOWN]
    ]
    return Malformed(fields=fields)


def pointer_to(place: Iterable[str | int]) -> str:
    """The JSON pointer (RFC 6901) to a place in a value."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in place)
