"""Schedules of workflows: runs that begin by the clock, and what became of each time."""

from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, Field, model_validator

from schemas.contract import (
    Entity,
    Event,
    Id,
    Job,
    Json,
    Listing,
    Name,
    Operation,
    Page,
    Problem,
    Schema,
)
from schemas.principal import Mandate
from schemas.problems import IllegalMove, NotFound, OutsideSchema, VersionConflict
from schemas.workflows.runs import PRIORITY

EVERY_S_MAX = 366 * 86_400
CATCH_UP_MAX = 100
TIMES_SHOWN_MAX = 100

ScheduleStatus = Literal["active", "paused", "deleted"]
CatchUp = Literal["none", "one", "all"]
Overlap = Literal["allow", "skip", "queue"]
FiringStatus = Literal["due", "queued", "started", "skipped", "missed", "refused"]


class Timing(Schema):
    """When: by a cron expression on the clocks of a time zone, or every so many seconds."""

    cron: str | None = Field(
        None, max_length=200, description="Minute, hour, day of month, month, day of week."
    )
    zone: str = Field("UTC", max_length=64, description="IANA time zone of the cron expression.")
    every_s: int | None = Field(None, ge=1, le=EVERY_S_MAX)

    @model_validator(mode="after")
    def _one_of_both(self) -> "Timing":
        """A schedule that names both would have two first times."""
        if (self.cron is None) == (self.every_s is None):
            raise ValueError("a schedule names one of cron and every_s")
        return self


class Scheduled(Timing):
    """What a schedule says."""

    name: Name
    workflow_id: Id
    inputs: Json = Field(default_factory=dict)
    catch_up: CatchUp = Field(
        "one", description="Which of the times that passed while nobody was there still count."
    )
    catch_up_max: int = Field(
        10, ge=1, le=CATCH_UP_MAX, description="With `all`: the newest so many of them."
    )
    overlap: Overlap = Field(
        "skip", description="What happens when the run before has not ended; `queue` keeps one."
    )
    priority: int = Field(PRIORITY, ge=1, le=5, description="Of its runs: 1 is first, 5 is last.")


class WorkflowSchedule(Entity, table="flow.schedules"):
    """Starts runs of a workflow with the rights of its owner."""

    name: str
    owner_id: str
    workflow_id: Id
    status: ScheduleStatus
    cron: str | None
    zone: str
    every_s: int | None
    inputs: Json
    catch_up: CatchUp
    catch_up_max: int
    overlap: Overlap
    counted_from: datetime = Field(description="From when `every_s` counts.")
    created_at: datetime
    updated_at: datetime
    mandate: Mandate | None = Field(None, description="With which rights it was asked for.")
    priority: int | None = None

    @property
    def timing(self) -> Timing:
        """When it is due."""
        return Timing(cron=self.cron, zone=self.zone, every_s=self.every_s)


class ScheduleFiring(Entity, table="flow.firings"):
    """One time of a schedule, and what became of it; its id follows from both."""

    schedule_id: Id
    owner_id: str
    workflow_id: Id
    inputs: Json
    due_at: datetime
    status: FiringStatus
    passed_from: datetime | None = Field(
        description="The oldest time that this one stands for, when older ones were passed over."
    )
    run_id: Id | None
    error: Json | None
    decided_at: datetime

    @property
    def key(self) -> str:
        """Under which its run is started: once, however often it is asked for."""
        return f"{self.schedule_id}/{self.due_at.isoformat()}"


class CreateSchedule(Scheduled):
    """Start runs of a workflow by the clock, with your rights."""


class UpdateSchedule(Scheduled):
    """Give a schedule other times, another workflow or other rules; runs go on."""

    id: Id
    version: int = Field(ge=1)


class GetSchedule(Schema):
    """Show one schedule."""

    id: Id


class ListSchedules(Listing):
    """List schedules, newest first."""

    workflow_id: Id | None = None
    status: Literal["active", "paused"] | None = None


class PauseSchedule(Schema):
    """Start no more runs; times that pass meanwhile do not count as missed."""

    id: Id


class ResumeSchedule(Schema):
    """Go on with the next time from now."""

    id: Id


class DeleteSchedule(Schema):
    """Take a schedule away; its runs go on."""

    id: Id


class NextTimes(Schema):
    """Show the next times of a schedule, whether it is paused or not."""

    id: Id
    count: int = Field(5, ge=1, le=TIMES_SHOWN_MAX)


class PreviewTimes(Timing):
    """Show the times that a schedule would have."""

    count: int = Field(5, ge=1, le=TIMES_SHOWN_MAX)
    after: AwareDatetime | None = Field(None, description="Now when empty.")


class Times(Schema):
    """Times, in the zone of their schedule."""

    items: tuple[datetime, ...]


class ListFirings(Listing):
    """List what became of a schedule's times, newest first."""

    id: Id
    status: FiringStatus | None = None


class ScheduleNameTaken(
    Problem, code="ERR_195", status=409, constraint="schedules_owner_id_name_key"
):
    """The owner already has a schedule of this name."""


class BadTiming(Problem, code="ERR_196", status=400):
    """There are no such times; the details say why."""


class Fire(Job, name="workflows.fire", workers=16, timeout_s=60):
    """Start the run of a schedule's time that has come."""

    firing_id: Id


class ScheduleCreated(Event, name="workflows.schedule_created"):
    """There is a new schedule."""

    schedule: WorkflowSchedule


class ScheduleChanged(Event, name="workflows.schedule_changed"):
    """It has other times or rules, is paused, or goes on."""

    schedule: WorkflowSchedule


class ScheduleDeleted(Event, name="workflows.schedule_deleted"):
    """It starts nothing any more."""

    schedule: WorkflowSchedule


class FiringDue(Event, name="workflows.firing_due"):
    """A time has come, and its run is being started."""

    firing: ScheduleFiring


class FiringQueued(Event, name="workflows.firing_queued"):
    """A time has come and waits for the end of the run before."""

    firing: ScheduleFiring


class FiringStarted(Event, name="workflows.firing_started"):
    """A time has its run."""

    firing: ScheduleFiring


class FiringPassed(Event, name="workflows.firing_passed"):
    """A time gets no run: it was missed, skipped or refused."""

    firing: ScheduleFiring


schedule_create = Operation(
    "workflows.schedule-create", CreateSchedule, WorkflowSchedule,
    rest="POST /workflow-schedules -> 201", may="workflows:create",
    problems=(NotFound, OutsideSchema, ScheduleNameTaken, BadTiming), emits=(ScheduleCreated,),
    idempotent=True,
)  # fmt: skip
schedule_update = Operation(
    "workflows.schedule-update", UpdateSchedule, WorkflowSchedule,
    rest="PUT /workflow-schedules/{id}", may="workflows:update",
    problems=(NotFound, VersionConflict, OutsideSchema, ScheduleNameTaken, BadTiming),
    emits=(ScheduleChanged,), idempotent=True,
)  # fmt: skip
schedule_get = Operation(
    "workflows.schedule-get", GetSchedule, WorkflowSchedule, rest="GET /workflow-schedules/{id}",
    may="workflows:read", problems=(NotFound,),
)  # fmt: skip
schedule_list = Operation(
    "workflows.schedule-list", ListSchedules, Page[WorkflowSchedule],
    rest="GET /workflow-schedules", may="workflows:read",
)  # fmt: skip
schedule_pause = Operation(
    "workflows.schedule-pause", PauseSchedule, WorkflowSchedule,
    rest="POST /workflow-schedules/{id}/pause", may="workflows:control",
    problems=(NotFound, IllegalMove), emits=(ScheduleChanged, FiringPassed), idempotent=True,
)  # fmt: skip
schedule_resume = Operation(
    "workflows.schedule-resume", ResumeSchedule, WorkflowSchedule,
    rest="POST /workflow-schedules/{id}/resume", may="workflows:control",
    problems=(NotFound, IllegalMove), emits=(ScheduleChanged,), idempotent=True,
)  # fmt: skip
schedule_delete = Operation(
    "workflows.schedule-delete", DeleteSchedule, WorkflowSchedule,
    rest="DELETE /workflow-schedules/{id}", may="workflows:delete", problems=(NotFound,),
    emits=(ScheduleDeleted, FiringPassed), idempotent=True,
)  # fmt: skip
schedule_times = Operation(
    "workflows.schedule-times", NextTimes, Times, rest="GET /workflow-schedules/{id}/times",
    may="workflows:read", problems=(NotFound, BadTiming),
)  # fmt: skip
schedule_preview = Operation(
    "workflows.schedule-preview", PreviewTimes, Times, rest="POST /workflow-schedules/preview",
    may="workflows:read", problems=(BadTiming,),
)  # fmt: skip
schedule_firings = Operation(
    "workflows.schedule-firings", ListFirings, Page[ScheduleFiring],
    rest="GET /workflow-schedules/{id}/firings", may="workflows:read", problems=(NotFound,),
)  # fmt: skip
