"""What a run may begin and use at once, given what is recorded of it. Pure."""

from collections.abc import Collection, Mapping

from schemas.workflows.document import Document
from schemas.workflows.runs import RunStep

AT_WORK = "run/"


def room(document: Document, steps: Mapping[str, RunStep], doing: Collection[str]) -> int:
    """How many steps may be begun; those count for which an agent is at work."""
    given = {
        path
        for path, step in steps.items()
        if step.status == "waiting" and (step.awaits or "").startswith(AT_WORK)
    }
    return max(0, document.at_once - len(given.union(doing)))


def tokens_left(document: Document, steps: Mapping[str, RunStep]) -> int | None:
    """What agents may still use; None when that is not limited."""
    if document.tokens_max is None:
        return None
    work = [step.work for step in steps.values() if step.work is not None]
    return max(0, document.tokens_max - sum(w.prompt_tokens + w.completion_tokens for w in work))
