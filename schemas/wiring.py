"""Who calls whom, and who listens to what besides: the part that no other declaration tells.

What a domain answers, announces, follows and works on stands in its own module. Here stands what
it asks of others. From both, `deploy/nats` derives what each process may do on the bus; a test
holds this table against the code.
"""

from dataclasses import dataclass
from typing import Any

from schemas import (
    agents,
    audit,
    catalogue,
    credentials,
    documents,
    evaluation,
    events,
    human,
    models,
    registry,
    supervision,
    tools,
)
from schemas.contract import Event, Operation
from schemas.identity import external, grants, keys, oauth, principals, runs, signing
from schemas.workflows import runs as workflow_runs

TOOL_SUBJECTS = "tool.>"
"""Where programs that are no part of the platform answer."""
ROLL_CALL = "$SRV.INFO"
"""The question of the NATS service protocol that everybody answers."""

ABOUT_RIGHTS = ("identity.", "credentials.")
"""Events of these may change what somebody may do."""


@dataclass(frozen=True)
class Wiring:
    """What one domain, or the edge, does on the bus beyond what its declarations say.

    Args:
        calls: Operations of other domains that it asks.
        hears: Events that it listens to as they pass, without a durable consumer.
        asks_outside: Subjects of programs that are no part of the platform.
        asks_anything: Asks besides whatever is named to it, on behalf of who named it, and people
            may ask.
        reads_uploads: Takes files out of the bucket of uploads.
        replays: Plays events again, below `replay.`, and looks how far it got there.
    """

    calls: tuple[Operation[Any, Any], ...] = ()
    hears: tuple[type[Event], ...] = ()
    asks_outside: tuple[str, ...] = ()
    asks_anything: bool = False
    reads_uploads: bool = False
    replays: bool = False

    @property
    def asks(self) -> tuple[Operation[Any, Any], ...]:
        """Every operation that it may ask."""
        anything = catalogue.operations() if self.asks_anything else ()
        return tuple(dict.fromkeys((*self.calls, *(o for o in anything if o.for_documents))))


EVERY_PROCESS = Wiring(
    calls=(principals.rules, audit.record),
    hears=(grants.GrantGiven, grants.GrantWithdrawn),
)
"""All that decide something know the grants: `bus/rights.py`."""
EDGE = Wiring(
    calls=(
        principals.resolve_key, principals.resolve_session, principals.resolve_token,
        keys.count_uses, signing.key_set, credentials.resolve,
        oauth.token, oauth.revoke_token, oauth.introspect_token,
        external.start_external, external.finish_external,
    ),
)  # fmt: skip
"""The edge also asks every operation that has a route."""

DOMAINS: dict[str, Wiring] = {
    "credentials": Wiring(
        calls=(keys.key, principals.resolve_key_id),
        hears=tuple(e for e in catalogue.events() if e.name.startswith(ABOUT_RIGHTS)),
    ),
    "identity": Wiring(calls=(agents.run,)),
    "events": Wiring(replays=True),
    "documents": Wiring(calls=(models.embed,), reads_uploads=True),
    "tools": Wiring(
        calls=(
            documents.get, documents.content, documents.sections, documents.search,
            documents.claims, documents.compare, documents.summarize, documents.write,
            registry.service, runs.run_token,
        ),
        asks_outside=(TOOL_SUBJECTS,),
    ),
    "agents": Wiring(
        calls=(
            events.history, models.generate, principals.act_for, tools.get, tools.invoke,
            tools.search,
        ),
        hears=(agents.RunFinished,),
    ),
    "goals": Wiring(
        calls=(
            agents.listing, documents.get, models.generate, evaluation.score, principals.act_for,
            tools.get, workflow_runs.lead,
        ),
    ),
    "workflows": Wiring(
        calls=(
            agents.assign, agents.start_run, agents.find_run, agents.stop_run,
            events.history, events.query, human.ask, human.settle, human.withdraw, human.answer,
            models.generate, principals.act_for, supervision.job, supervision.cancel_job,
            tools.invoke,
        ),
        asks_anything=True,
        hears=(
            workflow_runs.RunMoved, workflow_runs.RunTold, workflow_runs.RunEnded,
            workflow_runs.PlanEnded,
        ),
    ),
    "human": Wiring(calls=(principals.person,)),
    "registry": Wiring(
        calls=(tools.listing, tools.get, tools.invoke),
        asks_anything=True,
        hears=(
            registry.ServiceAppeared, registry.ServiceChanged, registry.ServiceHealthChanged,
            registry.ServiceLost, tools.ToolRegistered, tools.ToolChanged,
            tools.InvocationSucceeded, tools.InvocationFailed,
        ),
        asks_outside=(ROLL_CALL, TOOL_SUBJECTS),
    ),
}  # fmt: skip


def of(domain: str) -> Wiring:
    """What a domain does besides; most do nothing."""
    return DOMAINS.get(domain, Wiring())
