"""The vocabulary in which every domain declares itself.

    Schema     a message body: frozen, unknown fields refused
    Entity     a thing with an id and a version whose whole state its events carry
    Event      something that happened; recording it also writes its entity's row
    Problem    an error with a stable code and HTTP status; raised, never returned
    Operation  a request and its reply, from which every door is derived
    Job        work that outlives its request

A declaration is data. Subjects, REST routes, documents, CLI commands, permissions and metrics are
read off it by the bus and the edge; nothing is registered by hand a second time.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    StringConstraints,
)

SUBJECT_PART = r"[A-Za-z0-9_-]{1,64}"
"""What one token of a NATS subject may be: no dot, wildcard, space or control character."""

ID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"

Id = Annotated[str, StringConstraints(pattern=rf"^{ID}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")]
Title = Annotated[str, StringConstraints(min_length=1, max_length=300)]
Text = Annotated[str, StringConstraints(max_length=100_000)]
Reason = Annotated[str, StringConstraints(max_length=1_000)]
Token = Annotated[str, StringConstraints(pattern=rf"^{SUBJECT_PART}$")]
ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,120}$")]
Cursor = Annotated[str, StringConstraints(max_length=500)]
Json = dict[str, Any]


def revealed(secret: SecretStr) -> str:
    """The text of a secret, for the message that carries it."""
    return secret.get_secret_value()


Secret = Annotated[SecretStr, PlainSerializer(revealed, return_type=str, when_used="json")]
"""A text that logs and tracebacks show as stars; only the JSON of its message has it."""

KNOWN = "known"
"""Instead of a permission: whoever is known may ask."""

Kind = Literal["call", "stream", "task"]
Runs = Literal["no", "within", "directly"]
Method = Literal["GET", "POST", "PUT", "DELETE"]


class Schema(BaseModel):
    """A message body. Frozen; what it does not declare is refused; made ready at its first use."""

    model_config = ConfigDict(
        defer_build=True, extra="forbid", frozen=True, ser_json_bytes="base64"
    )

    def __init_subclass__(cls, **_: Any) -> None:
        """Class arguments are read by `__pydantic_init_subclass__` below."""
        super().__init_subclass__()

    @classmethod
    def described(cls) -> str:
        """The first line of the class's own docstring: help text on every door."""
        return (cls.__doc__ or "").strip().split("\n")[0]


class Entity(Schema):
    """A thing that is changed by events, each of which carries its whole new state.

    `table` is where its row lives, with one column per field; `identity` the columns of its key;
    `read` the permission that its events need besides that of the feed.
    """

    table: ClassVar[str] = ""
    identity: ClassVar[tuple[str, ...]] = ("id",)
    read: ClassVar[str | None] = None

    id: Id
    version: int = Field(ge=1)

    @classmethod
    def __pydantic_init_subclass__(
        cls,
        *,
        table: str = "",
        identity: tuple[str, ...] = ("id",),
        read: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        cls.table, cls.identity, cls.read = table, identity, read

    @classmethod
    def noun(cls) -> str:
        """`ToolInvocation` -> `tool_invocation`: the aggregate type in the event log."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()


E = TypeVar("E", bound=Entity)


class Event(Schema):
    """Something that happened to one entity. Its only field is that entity, as it is now."""

    name: ClassVar[str] = ""
    category: ClassVar[str] = "application"
    field_name: ClassVar[str] = ""
    entity_type: ClassVar[type[Entity]]

    @classmethod
    def __pydantic_init_subclass__(
        cls, *, name: str = "", category: str = "application", **kwargs: Any
    ) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        cls.name, cls.category = name, category
        [(cls.field_name, declared)] = cls.model_fields.items()
        assert declared.annotation is not None
        cls.entity_type = declared.annotation  # type: ignore[assignment]

    @property
    def entity(self) -> Entity:
        """The entity after the event."""
        entity: Entity = getattr(self, self.field_name)
        return entity

    @classmethod
    def subject_root(cls) -> str:
        """The subject without its last token, the entity's id."""
        return f"evt.{cls.name}"


class Problem(Exception):
    """An error that crosses the bus. Its docstring is the message that people read.

    `code` is API and never changes; `constraint` names the database constraint whose violation
    means this problem; `retryable` says that the same request may succeed later.
    """

    code: ClassVar[str] = "ERR_500"
    status: ClassVar[int] = 500
    constraint: ClassVar[str | None] = None
    retryable: ClassVar[bool] = False
    by_constraint: ClassVar[dict[str, type["Problem"]]] = {}
    by_code: ClassVar[dict[str, type["Problem"]]] = {}

    def __init_subclass__(
        cls,
        *,
        code: str,
        status: int,
        constraint: str | None = None,
        retryable: bool = False,
    ) -> None:
        cls.code, cls.status, cls.constraint, cls.retryable = code, status, constraint, retryable
        if code in Problem.by_code:
            raise ValueError(f"{code} is taken by {Problem.by_code[code].__name__}")
        Problem.by_code[code] = cls
        if constraint:
            Problem.by_constraint[constraint] = cls

    def __init__(self, message: str | None = None, **details: Any) -> None:
        self.message = message or " ".join((type(self).__doc__ or "").split())
        self.details: Mapping[str, Any] = details
        super().__init__(self.message)

    def kept(self) -> Json:
        """As it stays with what it has ended: a goal, a run, a step."""
        return {"code": self.code, "message": self.message, "details": dict(self.details)}

    def body(self, at: datetime) -> Json:
        """The error envelope of every door."""
        return {
            "error": self.kept()
            | {
                "retryable": self.retryable,
                "timestamp": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            }
        }


class Job(Schema):
    """Work that outlives its request: a durable message `job.<domain>.<verb>`.

    `workers` is how many run at once in one process, `attempts` after how many failures it is
    given up, `timeout_s` the longest that one attempt may take.
    """

    name: ClassVar[str] = ""
    workers: ClassVar[int] = 4
    attempts: ClassVar[int] = 8
    timeout_s: ClassVar[float] = 600.0

    @classmethod
    def __pydantic_init_subclass__(
        cls,
        *,
        name: str = "",
        workers: int = 4,
        attempts: int = 8,
        timeout_s: float = 600.0,
        **kwargs: Any,
    ) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        cls.name, cls.workers, cls.attempts, cls.timeout_s = name, workers, attempts, timeout_s

    @classmethod
    def subject(cls) -> str:
        """Where the work is queued."""
        return f"job.{cls.name}"

    @classmethod
    def durable(cls) -> str:
        """Its consumer."""
        return cls.name.replace(".", "-")


@dataclass(frozen=True)
class Reaction:
    """Work that a domain does after an event: a durable consumer of its own.

    Args:
        durable: `<domain>-<what it does>`; renaming it replays everything.
        event: What it follows: one event, or all the events of one domain.
        workers: How many run at once in one process.
        timeout_s: The longest that one may take.
    """

    durable: str
    event: type[Event] | tuple[type[Event], ...]
    workers: int = 4
    timeout_s: float = 30.0

    @property
    def subject(self) -> str:
        """The events that it follows."""
        if isinstance(self.event, tuple):
            [domain] = {event.name.split(".")[0] for event in self.event}
            return f"evt.{domain}.>"
        return f"{self.event.subject_root()}.*"

    def event_named(self, name: str) -> type[Event]:
        """The event of this name.

        Raises:
            KeyError: It follows none of this name.
        """
        followed = self.event if isinstance(self.event, tuple) else (self.event,)
        return {event.name: event for event in followed}[name]


T = TypeVar("T")


class Page(Schema, Generic[T]):
    """One page of a list; `next` asks for the page after it and is absent on the last."""

    items: tuple[T, ...]
    next: Cursor | None = None


class Listing(Schema):
    """Base of list requests: keyset pages in a stable order."""

    limit: int = Field(default=50, ge=1, le=200)
    cursor: Cursor | None = None


@dataclass(frozen=True, slots=True)
class Rest:
    """Where an operation stands in the REST interface."""

    method: Method
    path: str
    status: int

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the path's parameters, in order."""
        return tuple(re.findall(r"{(\w+)}", self.path))

    @classmethod
    def parse(cls, text: str) -> "Rest":
        """Read `POST /agents -> 201`; the status is 200 unless it is named."""
        match = re.fullmatch(r"(GET|POST|PUT|DELETE) (/\S*)(?: -> (\d{3}))?", text)
        if match is None:
            raise ValueError(f"not a REST declaration: {text!r}")
        method, path, status = match.groups()
        return cls(method, path, int(status or 200))  # type: ignore[arg-type]


C = TypeVar("C", bound=Schema)
R = TypeVar("R", bound=Schema)


@dataclass(frozen=True)
class Operation(Generic[C, R]):
    """A request that the platform answers, and all that its doors need to know of it.

    Args:
        name: `<domain>.<verb>`; the subject is `req.` plus it.
        request: Body of the request; its docstring is the help text.
        reply: Body of the answer: the whole new state.
        rest: `METHOD /path -> status` below `/api/v1`; None keeps it on the bus.
        may: The permission that it needs, `<resource>:<action>`, or KNOWN for anybody who is known.
            Without one an operation is public or internal, or does not come into being.
        public: Answers also those who show no credential.
        internal: Answers only the platform's own processes.
        runs: Whether it may be called in an agent's run: by the agent itself or a program with the
            run's token (`directly`), only by a layer on the way of such a call (`within`), or not.
        guesses: Takes a secret that people choose or type: few attempts, and none uncounted.
        problems: What it may answer beyond what any operation may.
        emits: Events that it records.
        idempotent: Takes an `Idempotency-Key` and is safe to retry.
        kind: call, stream (tokens on `live.` before the reply) or task (202 and a job).
        workers: How many run at once in one process.
        timeout_s: The longest that it may take.
        body_bytes_max: The largest request that the edge accepts.
        chunk: What a stream operation sends before its reply.
        commits_itself: The handler commits on its own, more than once, because it waits for the
            world in between; it then keeps the promise of `idempotent` itself, by `ctx.key`.
        upload: The field that takes a raw body, for a route that also accepts files.
        interruptible: A task whose job may be cancelled while it runs: what it has done stays.
    """

    name: str
    request: type[C]
    reply: type[R]
    rest: str | None = None
    may: str | None = None
    public: bool = False
    internal: bool = False
    runs: Runs = "no"
    guesses: bool = False
    problems: tuple[type[Problem], ...] = ()
    emits: tuple[type[Event], ...] = ()
    idempotent: bool = False
    kind: Kind = "call"
    workers: int = 32
    timeout_s: float = 5.0
    body_bytes_max: int = 256 * 1024
    chunk: type[Schema] | None = None
    commits_itself: bool = False
    upload: str | None = None
    interruptible: bool = False
    route: Rest | None = field(init=False)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z]+\.[a-z][a-z-]*", self.name):
            raise ValueError(f"operation names are <domain>.<verb>, not {self.name!r}")
        if [self.may is not None, self.public, self.internal].count(True) != 1:
            raise ValueError(f"{self.name} does not say who may ask it, or says it twice")
        object.__setattr__(self, "route", Rest.parse(self.rest) if self.rest else None)

    @property
    def domain(self) -> str:
        """The domain that handles it."""
        return self.name.split(".")[0]

    @property
    def verb(self) -> str:
        """Its name inside the domain."""
        return self.name.split(".")[1]

    @property
    def subject(self) -> str:
        """Where it is asked on the bus."""
        return f"req.{self.name}"

    @property
    def reads(self) -> bool:
        """Changes nothing, so it may be repeated at will."""
        return not self.emits and self.route is not None and self.route.method == "GET"

    @property
    def for_documents(self) -> bool:
        """Whether a document or another request may name it: what people may ask, no secret."""
        return self.route is not None and not self.public and not self.guesses

    @property
    def tags(self) -> tuple[str, ...]:
        """What lists of operations are narrowed by."""
        marks = {"reads": self.reads, "announces": bool(self.emits), "internal": self.internal,
                 "idempotent": self.idempotent, "public": self.public}  # fmt: skip
        return (self.kind, *(mark for mark, holds in marks.items() if holds))

    @property
    def summary(self) -> str:
        """One line of help."""
        return self.request.described()
