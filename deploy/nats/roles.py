"""Who may publish and subscribe what: one role a credential, derived from the declarations. Pure.

The rules behind it:

- Nobody has `allow_responses`: a caller could spend the responder's rights by its choice of reply
  subject. A responder may publish to the inboxes of those who may call it, and nowhere else.
- Each credential reads its own inbox `_INBOX.<role>.>` only. Programs that are no part of the
  platform answer to `_INBOX.outside.*`, which nothing but such answers comes to.
- A layer subscribes to its requests as a member of its queue group only.
- A named consumer may be read by its domain alone; nobody but `admin` may change one.
- Events are played again, below `replay.`, by the domain that has the log alone.
- Every handlers process runs the relay and the reconciler, so every handlers role may publish
  events, jobs and dead letters of all domains.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bus import stopping, subjects
from bus.live import STREAM as LIVE
from bus.subjects import INBOX, OUTSIDE, REPLAY
from bus.topology import UPLOADS, Consumer, consumers
from schemas import catalogue, wiring
from schemas.contract import Operation

PLATFORM = ("edge", "handlers", "admin", "watcher", "inspector", "outside")
API = "api.*.*.*"
API_QUEUE = "api"
VERBS = ("PING", "INFO", "STATS")
JETSTREAM = "$JS.API"
LOGIN = "$SYS.REQ.USER.AUTH"
UPLOADS_STREAM = f"OBJ_{UPLOADS}"


@dataclass(frozen=True)
class Role:
    """One NATS user."""

    name: str
    about: str
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    deny_publish: tuple[str, ...] = ()
    deny_subscribe: tuple[str, ...] = ()


def role(
    name: str,
    about: str,
    publish: Iterable[str],
    subscribe: Iterable[str],
    deny_publish: Iterable[str] = (),
) -> Role:
    """A role with its own inbox, in a stable order."""
    return Role(
        name, about, ordered(publish), ordered({*subscribe, inbox(name)}), ordered(deny_publish)
    )


def ordered(subjects: Iterable[str]) -> tuple[str, ...]:
    """Without doubles, sorted."""
    return tuple(sorted(set(subjects)))


def inbox(name: str) -> str:
    """Where replies to this role come."""
    return f"{INBOX}.{name}.>"


def platform() -> tuple[Role, ...]:
    """The users of the account PORTAL."""
    domains = [domain_role(domain) for domain in catalogue.DOMAINS]
    return (edge(), handlers(domains), *domains, admin(), watcher(), inspector(), outside())


def durables() -> tuple[Consumer, ...]:
    """Every durable consumer."""
    return consumers(catalogue.reactions(), catalogue.jobs(), catalogue.operations())


def streaming() -> tuple[str, ...]:
    """Domains that have an operation whose tokens are sent."""
    return ordered(o.domain for o in catalogue.operations() if o.kind == "stream")


def asked_by_edge() -> tuple[Operation[Any, Any], ...]:
    """What the edge asks: whatever has a route, and what it needs itself."""
    routed = (o for o in catalogue.operations() if o.route is not None)
    return (*routed, *wiring.EDGE.calls, *wiring.EVERY_PROCESS.calls)


def callers_of(domain: str) -> tuple[str, ...]:
    """Roles that may ask operations of a domain."""
    layers = [other for other in catalogue.DOMAINS if calls_into(other, domain)]
    edges = ["edge"] if any(o.domain == domain for o in asked_by_edge()) else []
    return (*edges, *layers, *(["handlers"] if layers else []))


def calls_into(other: str, domain: str) -> bool:
    """Whether a layer asks something of that domain."""
    calls = (*wiring.of(other).asks, *wiring.EVERY_PROCESS.calls)
    return any(operation.domain == domain for operation in calls)


def edge() -> Role:
    """HTTP, WebSocket and the bus's own door, `api.`."""
    named = [c.durable for c in durables() if c.stream == "EVENTS"]
    create = f"{JETSTREAM}.CONSUMER.CREATE.EVENTS"
    following = f"{JETSTREAM}.CONSUMER.MSG.NEXT.EVENTS"
    return role(
        "edge",
        "Asks what has a route; follows events and tokens; stores uploads; answers `api.`.",
        publish=[
            *(operation.subject for operation in asked_by_edge()),
            f"{JETSTREAM}.STREAM.INFO.EVENTS",
            f"{JETSTREAM}.STREAM.INFO.{LIVE}",
            f"{create}.*.evt.>",
            f"{following}.*",
            f"{JETSTREAM}.CONSUMER.CREATE.{LIVE}",
            "$JS.FC.EVENTS.>",
            f"$JS.FC.{LIVE}.>",
            f"$O.{UPLOADS}.C.*",
            f"$O.{UPLOADS}.M.*",
            f"{JETSTREAM}.STREAM.PURGE.{UPLOADS_STREAM}",
            "_R_.>",
        ],
        subscribe=[
            *(f"live.{domain}.*" for domain in streaming()),
            *(f"{event.subject_root()}.*" for event in wiring.EVERY_PROCESS.hears),
            f"{API} {API_QUEUE}",
        ],
        deny_publish=[
            subject
            for name in named
            for subject in (f"{create}.{name}.>", f"{following}.{name}")
        ],
    )  # fmt: skip


def domain_role(domain: str) -> Role:
    """A handlers process that runs this domain only."""
    return role(
        domain,
        f"A process that runs only the domain {domain}.",
        publish=[*answers(domain), *own_work(domain), *outgoing(domain), *delivery()],
        subscribe=[
            f"req.{domain}.> {domain}",
            *stops(domain),
            *roll_call(domain),
            *incoming(domain),
        ],
    )


def stops(*domains: str) -> list[str]:
    """Where these hear which of their calls nobody wants any more, and which somebody misses."""
    long = [domain for domain in domains if domain in stopping.can_stop()]
    return [of(domain) for domain in long for of in (subjects.stop, subjects.look)]


def answers(domain: str) -> list[str]:
    """Where its replies may go: to its callers, and to whoever calls the roll."""
    curious = ("watcher", "inspector")
    return [*(inbox(name) for name in (*callers_of(domain), *curious)), f"{OUTSIDE}.*"]


def roll_call(domain: str) -> list[str]:
    """The NATS service protocol: everybody, by name, by instance."""
    return [f"$SRV.{verb}{tail}" for verb in VERBS for tail in ("", f".{domain}", f".{domain}.*")]


def own_work(domain: str) -> list[str]:
    """Its durable consumers and its tokens."""
    allowed = [f"live.{domain}.*"] if domain in streaming() else []
    for one in durables():
        if one.durable.startswith(f"{domain}-"):
            allowed += [
                f"{JETSTREAM}.CONSUMER.INFO.{one.stream}.{one.durable}",
                f"{JETSTREAM}.CONSUMER.MSG.NEXT.{one.stream}.{one.durable}",
                f"$JS.ACK.{one.stream}.{one.durable}.>",
            ]
    return allowed


def outgoing(domain: str) -> list[str]:
    """What it asks of others."""
    wired = wiring.of(domain)
    uploads = [
        f"{JETSTREAM}.STREAM.INFO.{UPLOADS_STREAM}",
        f"{JETSTREAM}.STREAM.MSG.GET.{UPLOADS_STREAM}",
        f"{JETSTREAM}.STREAM.NAMES",
        f"{JETSTREAM}.CONSUMER.CREATE.{UPLOADS_STREAM}",
        f"$JS.FC.{UPLOADS_STREAM}.>",
    ]
    return [
        *(operation.subject for operation in (*wired.asks, *wiring.EVERY_PROCESS.calls)),
        *stops(*{operation.domain for operation in wired.asks}),
        *wired.asks_outside,
        *(uploads if wired.reads_uploads else ()),
        *(replaying() if wired.replays else ()),
    ]


def replaying() -> list[str]:
    """Every event, played again, and the last one that was."""
    played = [f"{REPLAY}.*.{event.name}" for event in catalogue.events()]
    return [*played, f"{JETSTREAM}.STREAM.MSG.GET.{REPLAY.upper()}"]


def incoming(domain: str) -> list[str]:
    """Events that it hears as they pass, and the answers of programs outside."""
    wired = wiring.of(domain)
    heard = [f"{e.subject_root()}.*" for e in (*wired.hears, *wiring.EVERY_PROCESS.hears)]
    return [*heard, *([f"{OUTSIDE}.*"] if wired.asks_outside else [])]


def delivery() -> list[str]:
    """The relay publishes every event, job and letter; the reconciler looks at queues of jobs."""
    queues = [one for one in durables() if one.stream == "JOBS"]
    return [
        *(f"{event.subject_root()}.*" for event in catalogue.events()),
        *(one.subject for one in queues),
        *(f"dead.{one.stream.lower()}.{one.durable}" for one in durables()),
        *(f"{JETSTREAM}.CONSUMER.INFO.JOBS.{one.durable}" for one in queues),
    ]


def handlers(domains: Iterable[Role]) -> Role:
    """A process that runs several domains on one connection: all of their rights."""
    together = tuple(domains)
    own = {inbox(one.name) for one in together}
    return role(
        "handlers",
        "A process that runs several domains, or all: the union of their rights.",
        publish=[subject for one in together for subject in one.publish],
        subscribe={subject for one in together for subject in one.subscribe} - own,
    )


def admin() -> Role:
    """`python -m bus`: makes and changes streams and consumers; asks no operation."""
    return role(
        "admin", "Makes and changes streams and consumers (`python -m bus`); one shot.",
        publish=[f"{JETSTREAM}.>"], subscribe=[],
    )  # fmt: skip


LOOKING = (
    *(f"$SRV.{verb}{tail}" for verb in VERBS for tail in ("", ".>")),
    f"{JETSTREAM}.INFO",
    f"{JETSTREAM}.STREAM.NAMES",
    f"{JETSTREAM}.STREAM.LIST",
    f"{JETSTREAM}.STREAM.INFO.*",
    f"{JETSTREAM}.CONSUMER.NAMES.*",
    f"{JETSTREAM}.CONSUMER.LIST.*",
    f"{JETSTREAM}.CONSUMER.INFO.*.*",
)


def watcher() -> Role:
    """For people who watch what happens."""
    return role(
        "watcher", "Watches events and tokens; changes nothing, sees no request.",
        publish=LOOKING, subscribe=["evt.>", "live.>", f"{REPLAY}.>"],
    )  # fmt: skip


def inspector() -> Role:
    """For people who look for a fault; requests hold passwords and signed principals."""
    kept = ("EVENTS", "JOBS", "DEAD")
    return role(
        "inspector",
        "Watches everything, requests too, and reads streams; changes nothing.",
        publish=[*LOOKING, *(f"{JETSTREAM}.STREAM.MSG.GET.{stream}" for stream in kept)],
        subscribe=[
            "evt.>",
            "live.>",
            "req.>",
            "job.>",
            "dead.>",
            f"{REPLAY}.>",
            wiring.TOOL_SUBJECTS,
        ],
    )


def outside() -> Role:
    """Tools and services of others that join by answering a subject."""
    return role(
        "outside",
        "Tools and services that are no part of the platform: they answer `tool.>`.",
        publish=[f"{OUTSIDE}.*", inbox("watcher"), inbox("inspector")],
        subscribe=[
            wiring.TOOL_SUBJECTS,
            *(f"$SRV.{verb}{tail}" for verb in VERBS for tail in ("", ".>")),
        ],
    )


def system() -> tuple[Role, ...]:
    """The users of the account SYS."""
    return (
        Role(
            "operator",
            "Sees and commands the servers, but not the passwords of who comes in.",
            publish=(">",),
            subscribe=(">",),
            deny_subscribe=(LOGIN,),
        ),
        role(
            "gatekeeper",
            "Tells the server who may come in from outside, and shows people out.",
            publish=["$SYS._INBOX.>", "$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.SERVER.*.KICK"],
            subscribe=[f"{LOGIN} gatekeeper"],
        ),
    )
