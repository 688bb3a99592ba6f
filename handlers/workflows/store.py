"""SQL of workflows and runs. Entities' rows are written by recording events."""

from bus.statement import Statement
from schemas.workflows.runs import PRIORITY

GET = Statement("SELECT * FROM flow.workflows WHERE id = $1")
LOCK = Statement("SELECT * FROM flow.workflows WHERE id = $1 FOR UPDATE")
NAMED = Statement(
    """
    SELECT * FROM flow.workflows WHERE owner_id = $1 AND name = $2 AND status = 'active'
    """
)
LIST = Statement(
    """
    SELECT * FROM flow.workflows
    WHERE ($1::text IS NULL OR owner_id = $1 OR id = ANY($2::uuid[]))
      AND NOT id = ANY($3::uuid[]) AND status = 'active'
      AND ($4::text IS NULL OR name = $4)
      AND ($5::timestamptz IS NULL OR (created_at, id) < ($5, $6::uuid))
    ORDER BY created_at DESC, id DESC LIMIT $7
    """
)
KEEP_DOCUMENT = Statement(
    """
    INSERT INTO flow.documents (workflow_id, version, document) VALUES ($1, $2, $3)
    """
)
KEEP_PLAN = Statement(
    """
    INSERT INTO flow.documents (workflow_id, version, document) VALUES ($1, $2, $3)
    ON CONFLICT DO NOTHING RETURNING version
    """
)
DOCUMENT = Statement("SELECT document FROM flow.documents WHERE workflow_id = $1 AND version = $2")

RUN = Statement("SELECT * FROM flow.runs WHERE id = $1")
LOCK_RUN = Statement("SELECT * FROM flow.runs WHERE id = $1 FOR UPDATE")
RUNS = Statement(
    """
    SELECT * FROM flow.runs
    WHERE ($1::text IS NULL OR owner_id = $1 OR id = ANY($2::uuid[]))
      AND NOT id = ANY($3::uuid[])
      AND ($4::uuid IS NULL OR workflow_id = $4)
      AND ($5::text IS NULL OR status = $5)
      AND ($6::timestamptz IS NULL OR (started_at, id) < ($6, $7::uuid))
    ORDER BY started_at DESC, id DESC LIMIT $8
    """
)
STEPS = Statement("SELECT * FROM flow.steps WHERE run_id = $1")
HELD_BEFORE = Statement(
    """
    WITH RECURSIVE before (id) AS (
        SELECT forked_from FROM flow.runs WHERE id = $1 AND forked_from IS NOT NULL
        UNION
        SELECT r.forked_from FROM before b JOIN flow.runs r ON r.id = b.id
        WHERE r.forked_from IS NOT NULL
    )
    SELECT s.path FROM before b JOIN flow.steps s ON s.run_id = b.id
    WHERE s.status = 'done' AND position($2::text IN s.output::text) > 0 AND NOT EXISTS (
        SELECT 1 FROM flow.steps u
        WHERE u.run_id = s.run_id AND u.path = s.path || '!undo' AND u.status = 'done'
    )
    """
)
"""Steps of the runs that a run was forked from that gave a thing and were not taken back."""
ANY_STEP = Statement("SELECT id FROM flow.steps WHERE run_id = $1 LIMIT 1")
STEP_PATHS = Statement("SELECT id, path FROM flow.steps WHERE run_id = $1 ORDER BY started_at, id")
STEP = Statement("SELECT * FROM flow.steps WHERE id = $1")
STEPS_PAGE = Statement(
    """
    SELECT * FROM flow.steps WHERE run_id = $1
      AND ($2::timestamptz IS NULL OR (started_at, id) > ($2, $3::uuid))
    ORDER BY started_at, id LIMIT $4
    """
)
AWAITING = Statement(
    "SELECT * FROM flow.steps WHERE run_id = $1 AND awaits = $2 AND status = 'waiting'"
)
ANYWHERE_AWAITING = Statement(
    "SELECT * FROM flow.steps WHERE awaits = $1 AND status = 'waiting' LIMIT 1"
)

KEEP_SIGNAL = Statement(
    "INSERT INTO flow.signals (run_id, name, data, sent_at) VALUES ($1, $2, $3, $4)"
)
TAKE_SIGNAL = Statement(
    """
    DELETE FROM flow.signals WHERE position = (
        SELECT position FROM flow.signals WHERE run_id = $1 AND name = $2
        ORDER BY position LIMIT 1
    ) RETURNING data
    """
)

CLAIM = Statement(
    f"""
    INSERT INTO flow.drivers AS d (run_id, owner_id, priority, holder, lease_until, wakes)
    SELECT id, owner_id, coalesce(priority, {PRIORITY}), $2::uuid,
           now() + make_interval(secs => $3), 1
    FROM flow.runs WHERE id = $1
    ON CONFLICT (run_id) DO UPDATE SET wakes = d.wakes + 1, due_at = NULL,
        holder = CASE WHEN d.lease_until > now() THEN d.holder ELSE excluded.holder END,
        lease_until = CASE WHEN d.lease_until > now() THEN d.lease_until
                           ELSE excluded.lease_until END
    RETURNING holder, wakes
    """  # noqa: S608 - a number of ours
)
WANT = Statement(
    f"""
    INSERT INTO flow.drivers AS d (run_id, owner_id, priority, wakes, due_at)
    SELECT id, owner_id, coalesce(priority, {PRIORITY}), 1, $2::timestamptz
    FROM flow.runs WHERE id = $1
    ON CONFLICT (run_id) DO UPDATE SET wakes = d.wakes + 1,
        due_at = CASE WHEN d.holder IS NULL THEN least(d.due_at, excluded.due_at) END
    """  # noqa: S608 - a number of ours
)
"""A run waits for a driver; one that has a driver only counts up, as in `CLAIM`."""
CANDIDATES = Statement(
    """
    WITH RECURSIVE owners (owner_id, place) AS (
        (SELECT owner_id, 1 FROM flow.drivers WHERE due_at IS NOT NULL AND owner_id > $4
         ORDER BY owner_id LIMIT 1)
        UNION ALL
        SELECT (SELECT d.owner_id FROM flow.drivers d
                WHERE d.due_at IS NOT NULL AND d.owner_id > o.owner_id
                ORDER BY d.owner_id LIMIT 1), o.place + 1
        FROM owners o WHERE o.owner_id IS NOT NULL AND o.place < $3
    ), held AS (
        SELECT owner_id, count(*) AS in_hand FROM flow.drivers WHERE lease_until IS NOT NULL
        GROUP BY owner_id
    )
    SELECT o.owner_id, o.place, w.run_id, w.priority, w.due_at AS since, t.at AS turn_at,
           coalesce(h.in_hand, 0) AS in_hand
    FROM owners o LEFT JOIN LATERAL (
        SELECT d.* FROM generate_series(1, 5) AS p (priority) CROSS JOIN LATERAL (
            SELECT run_id, priority, due_at FROM flow.drivers
            WHERE owner_id = o.owner_id AND priority = p.priority AND due_at <= $1
            ORDER BY due_at LIMIT $2
        ) d
    ) w ON true
    LEFT JOIN held h ON h.owner_id = o.owner_id LEFT JOIN flow.turns t ON t.owner_id = o.owner_id
    """
)
"""Of each owner and priority the oldest runs that wait for a driver; one page of owners.

An owner without such runs has one row, and a row without an owner is behind the last of them.
An index leads from owner to owner and to the oldest of each: the thousands behind are not read.
"""
TAKE = Statement(
    """
    WITH taken AS (
        UPDATE flow.drivers d SET holder = t.holder, due_at = NULL,
            lease_until = now() + make_interval(secs => $3)
        FROM unnest($1::uuid[], $2::uuid[]) AS t (run_id, holder)
        WHERE d.run_id = t.run_id AND d.run_id IN (
            SELECT run_id FROM flow.drivers
            WHERE run_id = ANY($1::uuid[]) AND holder IS NULL AND due_at <= $4
            FOR UPDATE SKIP LOCKED
        ) RETURNING d.run_id, d.owner_id, d.holder, d.wakes
    ), turned AS (
        INSERT INTO flow.turns (owner_id, at)
        SELECT DISTINCT owner_id, $4::timestamptz FROM taken ORDER BY owner_id
        ON CONFLICT (owner_id) DO UPDATE SET at = excluded.at
    )
    SELECT run_id, holder, wakes FROM taken
    """
)
RENEW = Statement(
    """
    UPDATE flow.drivers SET lease_until = now() + make_interval(secs => $2)
    WHERE holder = ANY($1::uuid[]) RETURNING holder
    """
)
RELEASE = Statement(
    """
    UPDATE flow.drivers SET holder = NULL, lease_until = NULL, due_at = $4
    WHERE run_id = $1 AND holder = $2 AND wakes = $3 RETURNING run_id
    """
)
NUDGE = Statement(
    """
    UPDATE flow.drivers SET due_at = $2 WHERE run_id IN (
        SELECT run_id FROM flow.drivers WHERE holder IS NULL AND run_id IN (
            SELECT run_id FROM flow.steps WHERE awaits = $1 AND status = 'waiting'
            ORDER BY started_at LIMIT $3
        ) FOR UPDATE SKIP LOCKED
    )
    """
)
HAND_OVER = Statement(
    """
    UPDATE flow.drivers SET holder = NULL, lease_until = NULL, due_at = $2
    WHERE holder = ANY($1::uuid[])
    """
)
WAKES = Statement("SELECT wakes FROM flow.drivers WHERE run_id = $1 AND holder = $2")
FORGET = Statement(
    """
    WITH unheard AS (DELETE FROM flow.signals WHERE run_id = $1)
    DELETE FROM flow.drivers WHERE run_id = $1 AND holder = $2
    """
)
ANY_DUE = Statement(
    "SELECT run_id FROM flow.drivers WHERE due_at <= $1 OR lease_until < now() LIMIT 1"
)
LET_GO_DEAD = Statement(
    """
    UPDATE flow.drivers SET due_at = $1, holder = NULL, lease_until = NULL WHERE run_id IN (
        SELECT run_id FROM flow.drivers WHERE lease_until < now()
        LIMIT $2 FOR UPDATE SKIP LOCKED
    )
    """
)
LOCK_QUEUE = Statement("SELECT pg_advisory_xact_lock(hashtextextended($1, 24))")
IN_QUEUE = Statement(
    """
    SELECT count(*) AS open FROM flow.runs
    WHERE owner_id = $1 AND queue = $2 AND finished_at IS NULL
      AND status IN ('running', 'paused', 'undoing')
    """
)
NEXT_IN_QUEUE = Statement(
    """
    SELECT r.* FROM generate_series(1, 5) AS p (priority) CROSS JOIN LATERAL (
        SELECT * FROM flow.runs
        WHERE owner_id = $1 AND queue = $2 AND finished_at IS NULL AND status = 'queued'
          AND priority = p.priority
        ORDER BY started_at, id LIMIT 1
    ) r
    """
)
"""The oldest queued run of each priority."""
STUCK_QUEUES = Statement(
    """
    SELECT owner_id, queue FROM flow.runs WHERE queue IS NOT NULL AND finished_at IS NULL
    GROUP BY owner_id, queue
    HAVING count(*) FILTER (WHERE status <> 'queued')
           < max(runs_at_once) FILTER (WHERE status = 'queued')
    LIMIT $1
    """
)
"""Queues in which somebody may wait though there is a place."""

SCHEDULE = Statement("SELECT * FROM flow.schedules WHERE id = $1")
LOCK_SCHEDULE = Statement("SELECT * FROM flow.schedules WHERE id = $1 FOR UPDATE")
SCHEDULES = Statement(
    """
    SELECT * FROM flow.schedules
    WHERE ($1::text IS NULL OR owner_id = $1 OR id = ANY($2::uuid[]))
      AND NOT id = ANY($3::uuid[]) AND status <> 'deleted'
      AND ($4::uuid IS NULL OR workflow_id = $4)
      AND ($5::text IS NULL OR status = $5)
      AND ($6::timestamptz IS NULL OR (created_at, id) < ($6, $7::uuid))
    ORDER BY created_at DESC, id DESC LIMIT $8
    """
)
STOPPED_CLOCKS = Statement(
    """
    SELECT s.*, (SELECT max(f.due_at) FROM flow.firings f WHERE f.schedule_id = s.id) AS last_at
    FROM flow.schedules s WHERE s.status = 'active'
      AND NOT EXISTS (SELECT 1 FROM flow.clocks c WHERE c.schedule_id = s.id)
    """
)
SET_CLOCK = Statement(
    """
    INSERT INTO flow.clocks (schedule_id, next_at) VALUES ($1, $2)
    ON CONFLICT (schedule_id) DO UPDATE SET next_at = excluded.next_at
    """
)
HOLD_CLOCK = Statement("SELECT next_at FROM flow.clocks WHERE schedule_id = $1 FOR UPDATE")
ANY_CLOCK = Statement("SELECT schedule_id FROM flow.clocks WHERE next_at <= $1 LIMIT 1")
TAKE_CLOCK = Statement(
    """
    SELECT schedule_id, next_at FROM flow.clocks WHERE next_at <= $1
    ORDER BY next_at LIMIT 1 FOR UPDATE SKIP LOCKED
    """
)
FIRING = Statement("SELECT * FROM flow.firings WHERE id = $1")
FIRINGS = Statement(
    """
    SELECT * FROM flow.firings WHERE schedule_id = $1
      AND ($2::text IS NULL OR status = $2)
      AND ($3::timestamptz IS NULL OR (due_at, id) < ($3, $4::uuid))
    ORDER BY due_at DESC, id DESC LIMIT $5
    """
)
KNOWN_FIRINGS = Statement("SELECT id FROM flow.firings WHERE id = ANY($1::uuid[])")
BUSY = Statement(
    """
    SELECT EXISTS (
        SELECT 1 FROM flow.firings WHERE schedule_id = $1 AND status = 'due'
        UNION ALL
        SELECT 1 FROM flow.runs r JOIN flow.firings f ON f.run_id = r.id
        WHERE r.finished_at IS NULL AND f.schedule_id = $1
    ) AS busy, EXISTS (
        SELECT 1 FROM flow.firings WHERE schedule_id = $1 AND status = 'queued'
    ) AS queued
    """
)
QUEUED = Statement("SELECT * FROM flow.firings WHERE schedule_id = $1 AND status = 'queued'")
FREE_AGAIN = Statement(
    """
    SELECT q.schedule_id FROM flow.firings q WHERE q.status = 'queued' AND NOT EXISTS (
        SELECT 1 FROM flow.firings f WHERE f.schedule_id = q.schedule_id AND f.status = 'due'
        UNION ALL
        SELECT 1 FROM flow.runs r JOIN flow.firings f ON f.run_id = r.id
        WHERE r.finished_at IS NULL AND f.schedule_id = q.schedule_id
    ) LIMIT $1
    """
)
