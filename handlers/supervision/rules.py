"""Decisions about jobs: which may be cut while they run."""

from schemas import catalogue


def interruptible() -> list[str]:
    """Kinds of jobs that may be cancelled while they run."""
    return [operation.name for operation in catalogue.operations() if operation.interruptible]
