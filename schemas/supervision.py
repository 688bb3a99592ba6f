"""Supervision: work that goes on behind a request."""

from datetime import datetime
from typing import Any, Literal

from schemas.contract import Id, Listing, Operation, Page, Schema
from schemas.problems import IllegalMove, NotFound

JobStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"]


class Work(Schema):
    """A job: what became of work that outlives its request."""

    id: Id
    kind: str
    status: JobStatus
    progress: float
    result: Any = None
    error: str | None = None
    actor: str
    attempts: int
    created_at: datetime
    finished_at: datetime | None = None


class ListJobs(Listing):
    """List jobs, newest first."""

    status: JobStatus | None = None
    kind: str | None = None


class GetJob(Schema):
    """Show one job."""

    id: Id


class CancelJob(Schema):
    """Cancel a job that has not begun, or a replay at any time before its end."""

    id: Id


jobs = Operation("supervision.jobs", ListJobs, Page[Work], rest="GET /jobs", may="jobs:read")
job = Operation(
    "supervision.job", GetJob, Work, rest="GET /jobs/{id}", may="jobs:read", problems=(NotFound,)
)
cancel_job = Operation(
    "supervision.cancel-job", CancelJob, Work, rest="POST /jobs/{id}/cancel", may="jobs:control",
    problems=(NotFound, IllegalMove),
)  # fmt: skip
