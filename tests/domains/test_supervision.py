"""Supervision: jobs can be seen, cancelled while they wait, and are forgotten at last."""

import pytest

from bus.service import own_context
from bus.statement import Statement
from handlers.supervision import reactions, service
from schemas import supervision
from schemas.problems import IllegalMove, NotFound
from schemas.supervision import CancelJob, GetJob, ListJobs

pytestmark = pytest.mark.usefixtures("platform")
JOB = "0192f0c0-0000-7000-8000-00000000000"
INSERT = Statement(
    """
    INSERT INTO ops.jobs (id, kind, payload, status, actor, roles, request_id, available_at,
                          created_at, finished_at)
    VALUES ($1, $2, '{}', $3, $4, '{admin}', 'r', now() + interval '1 hour',
            now() - make_interval(days => $5), CASE WHEN $3 = 'queued' THEN NULL
                                                    ELSE now() - make_interval(days => $5) END)
    """
)


@pytest.fixture
async def jobs(platform):
    """Rows as the bus writes them; queued ones are for later, so nobody begins them."""
    for number, (kind, status, actor, age_days) in enumerate(
        [
            ("a.b", "queued", "admin", 0),
            ("a.b", "queued", "ben", 0),
            ("c.d", "running", "admin", 0),
            ("c.d", "succeeded", "admin", 1),
            ("c.d", "failed", "admin", 40),
            ("c.d", "queued", "admin", 40),
        ]
    ):
        values = (f"{JOB}{number}", kind, status, actor, age_days)
        await platform.database.execute(INSERT, *values)


async def kinds(ask, **wanted):
    listed = await ask(supervision.jobs, ListJobs(limit=200, **wanted))
    return [job.id[-1] for job in listed.items if job.id.startswith(JOB)]


async def test_jobs_are_listed_newest_first_by_status_and_kind(ask, jobs):
    wanted = {"0", "1", "2", "3", "5"}  # 4 ended so long ago that it may be forgotten already
    assert set(await kinds(ask)) - {"4"} == wanted
    assert await kinds(ask, status="running") == ["2"]
    assert set(await kinds(ask, kind="c.d")) - {"4"} == {"2", "3", "5"}
    assert (await ask(supervision.job, GetJob(id=f"{JOB}3"))).status == "succeeded"


async def test_a_queued_job_is_cancelled_and_any_other_is_not(ask, jobs):
    cancelled = await ask(supervision.cancel_job, CancelJob(id=f"{JOB}0"))
    assert cancelled.status == "cancelled"
    assert cancelled.finished_at is not None
    for number in (0, 2, 3):
        with pytest.raises(IllegalMove):
            await ask(supervision.cancel_job, CancelJob(id=f"{JOB}{number}"))


async def test_a_developer_knows_only_of_own_jobs(ask_as, jobs):
    ben = ask_as("developer", "ben")
    assert await kinds(ben) == ["1"]
    with pytest.raises(NotFound):
        await ben(supervision.job, GetJob(id=f"{JOB}0"))
    with pytest.raises(NotFound):
        await ben(supervision.cancel_job, CancelJob(id=f"{JOB}0"))
    assert (await ben(supervision.cancel_job, CancelJob(id=f"{JOB}1"))).status == "cancelled"


async def test_ended_jobs_are_kept_for_thirty_days(ask, platform, jobs):
    await reactions.forget(own_context(service, platform))
    assert "4" not in await kinds(ask)
    assert {"3", "5"} <= set(await kinds(ask))
