"""When a failed step is tried again. Pure."""

from datetime import datetime, timedelta

from schemas.workflows.document import Retry


def after_failure(
    retry: Retry | None, attempt: int, code: str, *, retryable: bool, at: datetime, spread: float
) -> datetime | None:
    """When a failed step is tried again; None when never. `spread` is from 0 to 1."""
    if retry is None or not retryable or attempt >= retry.attempts or code in retry.never:
        return None
    wait_s = min(retry.first_s * 2.0 ** (attempt - 1), retry.most_s)
    return at + timedelta(seconds=wait_s * (0.5 + spread / 2))
