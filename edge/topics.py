"""What can be watched: a topic is a group of events, with the permission that it needs.

`events` is all of them; `llm.stream` are tokens, which are no events and have no position.
"""

from functools import cache

from pydantic import Field

from schemas import catalogue
from schemas.contract import Id, Schema, Token

ALL = "events"
TOKENS = "llm.stream"
TOPICS_MAX = 100

PERMISSIONS: dict[str, str] = {
    ALL: "events:read",
    "agents.status": "agents:read",
    "runs.progress": "agents:read",
    "tasks.progress": "goals:read",
    "goals.progress": "goals:read",
    "documents": "documents:read",
    "tools": "tools:read",
    "quality": "quality:read",
    "inbox": "inbox:read",
    "system": "services:read",
    TOKENS: "models:read",
}

_BY_ENTITY = {
    "agent": "agents.status",
    "run": "runs.progress",
    "step": "runs.progress",
    "task": "tasks.progress",
    "plan": "tasks.progress",
    "goal": "goals.progress",
    "document": "documents",
    "tool": "tools",
    "tool_invocation": "tools",
    "quality_score": "quality",
    "human_task": "inbox",
    "service": "system",
}


@cache
def table() -> dict[str, tuple[str, ...]]:
    """Event type -> the topics that carry it."""
    return {
        event.name: (topic, ALL) if (topic := topic_of(event.entity_type.noun())) else (ALL,)
        for event in catalogue.events()
    }


def topic_of(noun: str) -> str | None:
    """The topic of the events of one kind of entity, besides `events`."""
    return _BY_ENTITY.get(noun)


def of_type(event_type: str) -> tuple[str, ...]:
    """The topics that carry a type of event."""
    return table().get(event_type, (ALL,))


class Filter(Schema):
    """Only what fits all of these; an absent one fits everything."""

    type: str | None = Field(None, max_length=100, description="A type, or a domain.")
    entity_id: Id | None = None
    correlation_id: Id | None = None
    goal_id: Id | None = None
    agent_id: Id | None = None
    task_id: Id | None = None
    run_id: Id | None = None
    document_id: Id | None = None
    stream_id: Token | None = Field(None, description="Of llm.stream: which one.")

    def wanted(self) -> dict[str, str]:
        """The fields that are given."""
        return self.model_dump(exclude_none=True)


def fits(wanted: dict[str, str], facts: dict[str, str]) -> bool:
    """Whether something with these facts passes the filter."""
    for name, value in wanted.items():
        if name == "type":
            kind = facts.get("type", "")
            if kind != value and not kind.startswith(value + "."):
                return False
        elif facts.get(name) != value:
            return False
    return True
