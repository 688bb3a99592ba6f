"""SQL of agents, runs and steps. Rows are written by recording events; here they are read."""

from bus.statement import Statement

GET = Statement("SELECT * FROM mcp_documents.agents WHERE id = $1")
LOCK = Statement("SELECT * FROM mcp_documents.agents WHERE id = $1 FOR UPDATE")
LOCK_RUN = Statement("SELECT * FROM runtime.runs WHERE id = $1 FOR UPDATE")
LIST = Statement(
    """
    SELECT * FROM mcp_documents.agents
    WHERE ($1::text IS NULL OR owner_id = $1 OR id = ANY($2::uuid[]))
      AND NOT id = ANY($3::uuid[])
      AND ($4::text IS NULL OR status = $4)
      AND ($5::text IS NULL OR capabilities @> ARRAY[$5])
      AND ($6::timestamptz IS NULL OR (created_at, id) < ($6, $7::uuid))
    ORDER BY created_at DESC, id DESC LIMIT $8
    """
)
CANDIDATES = Statement(
    """
    SELECT a.*, (SELECT count(*) FILTER (WHERE r.status = 'succeeded')::float
                        / greatest(count(*), 1)
                 FROM (SELECT status FROM runtime.runs WHERE agent_id = a.id
                       ORDER BY created_at DESC LIMIT 20) r) AS success
    FROM mcp_documents.agents a
    WHERE a.status IN ('idle', 'busy') AND a.running < (a.limits ->> 'parallel')::int
      AND a.capabilities @> $1::text[]
    LIMIT 100
    """
)
GET_RUN = Statement("SELECT * FROM runtime.runs WHERE id = $1")
FIND_RUN = Statement(
    """
    SELECT * FROM runtime.runs WHERE id = $1 OR ($1::uuid IS NULL AND task_id = $2)
    ORDER BY created_at DESC, id DESC LIMIT 1
    """
)
LIST_RUNS = Statement(
    """
    SELECT * FROM runtime.runs
    WHERE ($1::text IS NULL OR owner_id = $1 OR ARRAY[id, agent_id, goal_id] && $2::uuid[])
      AND NOT ARRAY[id, agent_id, goal_id] && $3::uuid[]
      AND ($4::uuid IS NULL OR agent_id = $4)
      AND ($5::uuid IS NULL OR goal_id = $5)
      AND ($6::text IS NULL OR status = $6)
      AND ($7::timestamptz IS NULL OR (created_at, id) < ($7, $8::uuid))
    ORDER BY created_at DESC, id DESC LIMIT $9
    """
)
OPEN_RUNS = Statement(
    "SELECT * FROM runtime.runs WHERE agent_id = $1 AND status IN ('queued', 'running')"
)
OPEN_RUNS_OF = Statement(
    """
    SELECT id FROM runtime.runs
    WHERE owner_id = $1 AND status IN ('queued', 'running')
      AND ($2::text IS NULL OR mandate ->> 'credential' = $2)
    ORDER BY id
    """
)
STEPS = Statement("SELECT * FROM runtime.steps WHERE run_id = $1 ORDER BY ordinal")
STEP_NAMES = Statement("SELECT id, name FROM runtime.steps WHERE run_id = $1 ORDER BY ordinal")
LIST_STEPS = Statement(
    """
    SELECT * FROM runtime.steps WHERE run_id = $1 AND ($2::int IS NULL OR ordinal > $2)
    ORDER BY ordinal LIMIT $3
    """
)
HAS_AGENTS = Statement("SELECT count(*) AS agents FROM mcp_documents.agents")
