"""How most kinds of steps are done: what is asked of whom, and what came of it.

Whatever a step asks is asked under the key `<run>/<path>`, whoever asks and however often: the one
who is asked does it once. A step that waits says what for, and when to look again.
"""

import hashlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

import orjson

from bus import named, travel
from bus.context import Context
from bus.named import command_of
from handlers.workflows.engine import Begin, BeginUndo
from handlers.workflows.mapping import Unmappable, computed
from schemas import catalogue, events, models, supervision, tools
from schemas.contract import Id, Json, Operation, Problem, Schema
from schemas.events import QueryEvents
from schemas.models import GenerateText, Message
from schemas.principal import Principal
from schemas.problems import TimedOut, TooLarge, Unavailable
from schemas.supervision import GetJob
from schemas.tools import InvokeTool
from schemas.travel import Asked
from schemas.workflows.definitions import BadDocument
from schemas.workflows.document import (
    CallStep,
    InvokeStep,
    JobStep,
    PromptStep,
    SetStep,
    Undo,
    WaitStep,
)
from schemas.workflows.runs import AgentWork, EndedBadly, RunStep, StepStatus

KEY_MAX = 200
LOOK_S = 1.0
LOOK_AGAIN_SHARE, LOOK_S_MAX = 0.1, 60.0
OUTPUT_BYTES_MAX = 256 * 1024
WORKFLOWS = Principal(id="workflows", kind="service", via="bus")
"""As whom the platform's own operations are asked."""
GOOD_END = ("succeeded", "completed")
BAD_END = ("failed", "cancelled", "timed_out")


@dataclass(frozen=True, slots=True)
class Came:
    """What came of a step."""

    status: StepStatus
    output: Any = None
    error: Json | None = None
    awaits: str | None = None
    due_at: datetime | None = None
    asked: Asked | None = None
    work: AgentWork | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a step is done: its run, on whose behalf, and its record if it has one."""

    run_id: str
    path: str
    ctx: Context
    acting: Callable[[], Awaitable[Context]]
    record: RunStep | None = None
    asks: Callable[[Asked], None] = lambda _: None
    goal_id: Id | None = None
    tokens_left: int | None = None

    @property
    def key(self) -> str:
        """Under which the world is asked."""
        key = f"{self.run_id}/{self.path}"
        return key if len(key) <= KEY_MAX else hashlib.sha256(key.encode()).hexdigest()

    @property
    def awaits(self) -> str | None:
        """What the step waits for already."""
        return self.record.awaits if self.record else None

    @property
    def began(self) -> datetime:
        """When the step began to wait: now, if it does only now."""
        return self.record.started_at if self.record else self.ctx.now()

    def late(self, within_s: float | None) -> bool:
        """Whether a step that waits has waited long enough."""
        return within_s is not None and self.ctx.now() >= self.began + timedelta(seconds=within_s)

    def look_by(self, first_s: float | None, within_s: float | None) -> datetime | None:
        """When to look again, or when the step has waited long enough.

        Args:
            first_s: How soon at first; the longer it has waited, the more seldom. Never if None.
            within_s: How long it may wait.
        """
        moments = list[datetime]()
        if first_s is not None:
            waited = self.ctx.now() - self.began
            look_s = min(max(first_s, waited.total_seconds() * LOOK_AGAIN_SHARE), LOOK_S_MAX)
            moments.append(self.ctx.now() + timedelta(seconds=look_s))
        if within_s is not None:
            moments.append(self.began + timedelta(seconds=within_s))
        return min(moments, default=None)


@contextmanager
def own_question() -> Iterator[None]:
    """What is asked here is answered at once: no answer in time means that nobody is there.

    So it is no try of the step, which has not taken too long, and is asked again while it may be.

    Raises:
        Unavailable: There was none.
    """
    try:
        yield
    except TimedOut as unheard:
        raise Unavailable(**unheard.details) from unheard


def still_waiting(place: Place) -> Came:
    """A step that waits as it did, and is looked at again."""
    assert place.record is not None
    record, due_at = place.record, place.look_by(LOOK_S, None)
    return Came(
        "waiting", record.output, awaits=record.awaits, due_at=due_at, work=record.work
    )  # fmt: skip


def failed(problem: Problem) -> Came:
    """A step that has failed for good."""
    return Came("failed", error=problem.kept())


async def ask(
    place: Place, operation: Operation[Any, Any], command: Schema, timeout_s: float | None = None
) -> Any:
    """What an operation answers to the owner of the run, as JSON."""
    place.asks(travel.question(operation, command))
    ctx = await place.acting()
    return await named.ask(ctx, operation, command, key=place.key, timeout_s=timeout_s)


async def call(step: CallStep, known: Json, place: Place) -> Came:
    """Ask an operation."""
    operation = catalogue.operation(step.operation)
    command = command_of(operation, computed(step.input, known))
    return Came("done", await ask(place, operation, command, step.timeout_s))


async def undo(step: Undo, known: Json, place: Place) -> Came:
    """Take a step back."""
    return Came("done", await ask(place, *undoing(step, known)))


def undoing(step: Undo, known: Json) -> tuple[Operation[Any, Any], Schema]:
    """What is asked to take a step back.

    Raises:
        Unmappable: Its input cannot be computed.
    """
    operation = catalogue.operation(step.operation)
    return operation, command_of(operation, computed(step.input, known))


async def job(step: JobStep, known: Json, place: Place) -> Came:
    """Begin a job, and look whether it has ended."""
    if place.awaits is None:
        operation = catalogue.operation(step.operation)
        command = command_of(operation, computed(step.input, known))
        work = await ask(place, operation, command)
        return Came("waiting", awaits=f"job/{work['id']}", due_at=place.look_by(LOOK_S, None))
    job_id = place.awaits.partition("/")[2]
    work = await ask(place, supervision.job, GetJob(id=job_id))
    return ended(work, work["result"], place, step.timeout_s)


def ended(thing: Json, result: Any, place: Place, within_s: float) -> Came:
    """What a job says of itself."""
    if thing["status"] in GOOD_END:
        return Came("done", result)
    if thing["status"] in BAD_END:
        return failed(EndedBadly(f"It has {thing['status']}.", cause=thing["error"]))
    if place.late(within_s):
        return failed(TimedOut("It took too long."))
    due_at = place.look_by(LOOK_S, within_s)
    return Came("waiting", awaits=place.awaits, due_at=due_at)


async def tool(step: InvokeStep, known: Json, place: Place) -> Came:
    """Invoke a tool."""
    timeout_ms = int(min(step.timeout_s, 120) * 1000)
    command = InvokeTool(
        name=step.tool, arguments=computed(step.input, known), timeout_ms=max(100, timeout_ms)
    )
    invocation = await ask(place, tools.invoke, command)
    return Came("done", invocation["result"])


async def model(step: PromptStep, known: Json, place: Place) -> Came:
    """Ask a model."""
    said = [("system", step.system), ("user", step.prompt)]
    messages = tuple(
        Message(role=cast("Any", role), content=str(computed(text, known)))
        for role, text in said
        if text is not None
    )
    command = GenerateText(messages=messages, model=step.model, tokens_max=step.tokens_max)
    return Came("done", await ask(place, models.generate, command, step.timeout_s))


async def wait(step: WaitStep, known: Json, place: Place) -> Came:
    """Wait for a time, a signal or an event."""
    if step.event is not None:
        return await event(step, known, place)
    if step.signal is not None:
        if place.awaits is not None and place.late(step.within_s):
            return failed(TimedOut(f"The signal {step.signal} did not come in time."))
        due_at = place.look_by(None, step.within_s)
        return Came("waiting", awaits=f"signal/{step.signal}", due_at=due_at)
    due_at = moment(step, known, place)
    if due_at <= place.ctx.now():
        return Came("done")
    return Came("waiting", awaits="time", due_at=due_at)


def moment(step: WaitStep, known: Json, place: Place) -> datetime:
    """Until when a step waits.

    Raises:
        Unmappable: `until` is no moment.
    """
    if step.for_s is not None:
        return place.began + timedelta(seconds=step.for_s)
    text = str(computed(step.until, known))
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Unmappable(f"{text[:80]!r} is no moment.") from None
    if at.tzinfo is None:
        raise Unmappable(f"{text[:80]!r} does not say in which time zone.")
    return at


async def event(step: WaitStep, known: Json, place: Place) -> Came:
    """Wait for an event that was recorded after the step had begun."""
    assert step.event is not None
    if place.record is None or place.record.awaits is None:
        newest = await ask(place, events.query, QueryEvents(limit=1, newest_first=True))
        after = newest["items"][0]["seq"] if newest["items"] else 0
        return Came("waiting", {"after": after}, awaits=f"event/{step.event}",
                    due_at=place.look_by(LOOK_S, step.within_s))  # fmt: skip
    after = place.record.output["after"]
    found = await ask(place, events.query, QueryEvents(type=step.event, after_seq=after, limit=200))
    for item in found["items"]:
        if all(computed(p, item) == computed(v, known) for p, v in step.match.items()):
            return Came("done", item)
    if place.late(step.within_s):
        return failed(TimedOut(f"No such event came: {step.event}."))
    if found["next"]:
        after = found["items"][-1]["seq"]
    due_at = place.look_by(LOOK_S, step.within_s)
    return Came("waiting", {"after": after}, awaits=f"event/{step.event}", due_at=due_at)


def too_large(output: Any) -> bool:
    """Whether an output is more than an event may carry: 1 MiB is all that the bus takes."""
    try:
        return len(orjson.dumps(output)) > OUTPUT_BYTES_MAX
    except TypeError:  # a number of more than 64 bits
        return True


def is_computed(begin: Begin) -> bool:
    """Whether a step needs nobody: what it gives follows from what is known."""
    return isinstance(begin.step, SetStep)


def compute_now(begin: Begin) -> Came:
    """The value of a step that needs nobody."""
    assert isinstance(begin.step, SetStep)
    try:
        value = computed(begin.step.value, begin.known)
    except Unmappable as unfit:
        return failed(BadDocument(str(unfit)))
    if too_large(value):
        return failed(TooLarge("The value is too large to be kept."))
    return Came("done", value)


def safe_to_repeat(begin: Begin | BeginUndo) -> bool:
    """Whether asking again does no harm, so that nothing need be recorded before."""
    what = begin.undo if isinstance(begin, BeginUndo) else begin.step
    if not isinstance(what, CallStep | JobStep | Undo):
        return True
    operation = catalogue.operation(what.operation)
    return operation.reads or operation.idempotent or operation.kind == "task"
