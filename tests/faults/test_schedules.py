"""kill -9 of whoever looks at the clock: each time of a schedule has one run, and none is left out."""

import pytest

from schemas.workflows import definitions, runs, schedules
from schemas.workflows.definitions import CreateWorkflow
from schemas.workflows.document import Document
from schemas.workflows.runs import ListWorkflowRuns
from schemas.workflows.schedules import CreateSchedule, ListFirings, PauseSchedule
from tests.conftest import eventually
from tests.faults.test_crashes import patiently

pytestmark = pytest.mark.timeout(300)
DEATHS = ("before-commit", "after-effect-before-ack")
TIMES = 12
EMPTY = Document.model_validate({"steps": [{"key": "a", "type": "set", "value": 1}]})


async def firings(ask, schedule):
    page = await patiently(ask, schedules.schedule_firings, ListFirings(id=schedule.id, limit=200))
    return page.items[::-1]


async def test_every_second_has_one_run_whoever_dies(handlers, ask):
    first = handlers.start()
    command = CreateWorkflow(name="empty", document=EMPTY)
    workflow = await patiently(ask, definitions.create, command, key="create")
    command = CreateSchedule(
        name="s", workflow_id=workflow.id, every_s=1, catch_up="all", catch_up_max=100,
        overlap="allow",
    )  # fmt: skip
    schedule = await patiently(ask, schedules.schedule_create, command, key="schedule")
    first.kill()
    for point in DEATHS:  # until the next has started nobody is there: times are missed
        await handlers.died(handlers.start(point))
    handlers.start()

    async def enough():
        found = await firings(ask, schedule)
        return len(found) >= TIMES

    await eventually(enough, 120)
    await patiently(ask, schedules.schedule_pause, PauseSchedule(id=schedule.id), key="pause")

    async def all_started():
        found = await firings(ask, schedule)
        return found if {f.status for f in found} == {"started"} else None

    found = await eventually(all_started, 120)
    ages_s = [(firing.due_at - schedule.counted_from).total_seconds() for firing in found]
    assert ages_s == list(range(1, len(found) + 1))
    begun = await patiently(ask, runs.runs, ListWorkflowRuns(workflow_id=workflow.id, limit=200))
    assert sorted(run.id for run in begun.items) == sorted(f.run_id for f in found)
