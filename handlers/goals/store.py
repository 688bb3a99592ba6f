"""SQL of goals, plans and tasks. Rows are written by recording events; here they are read."""

from bus.statement import Statement

GET = Statement("SELECT * FROM mcp_documents.goals WHERE id = $1")
LOCK = Statement("SELECT * FROM mcp_documents.goals WHERE id = $1 FOR UPDATE")
LIST = Statement(
    """
    SELECT * FROM mcp_documents.goals
    WHERE ($1::text IS NULL OR owner_id = $1 OR id = ANY($2::uuid[]))
      AND NOT id = ANY($3::uuid[])
      AND ($4::text IS NULL OR status = $4)
      AND ($5::timestamptz IS NULL OR (created_at, id) < ($5, $6::uuid))
    ORDER BY created_at DESC, id DESC LIMIT $7
    """
)
GET_PLAN = Statement("SELECT * FROM mcp_documents.plans WHERE id = $1")
GET_TASK = Statement("SELECT * FROM mcp_documents.tasks WHERE id = $1")
TASKS = Statement("SELECT * FROM mcp_documents.tasks WHERE plan_id = $1 ORDER BY created_at, id")
LOST_TOKENS = Statement(
    """
    SELECT coalesce(sum(prompt_tokens), 0)::bigint AS prompt_tokens,
           coalesce(sum(completion_tokens), 0)::bigint AS completion_tokens
    FROM mcp_documents.tasks t WHERE t.goal_id = $1 AND t.plan_id <> $2 AND NOT EXISTS (
        SELECT 1 FROM mcp_documents.tasks k WHERE k.goal_id = $1 AND k.kept_from = t.id
    )
    """
)
PAST = Statement(
    """
    SELECT capabilities, prompt_tokens + completion_tokens AS tokens,
           extract(epoch FROM finished_at - started_at)::float AS seconds,
           jsonb_array_length(brief -> 'steps') > 0
               AND NOT jsonb_path_exists(brief, '$.steps[*].ask') AS only_tools
    FROM mcp_documents.tasks
    WHERE status = 'succeeded' AND kind = 'agent' AND kept_from IS NULL
      AND started_at IS NOT NULL AND capabilities && $1::text[]
    ORDER BY finished_at DESC LIMIT $2
    """
)
CACHED = Statement("SELECT plan FROM mcp_documents.plan_cache WHERE key = $1 AND made_at > $2")
CACHE = Statement(
    """
    INSERT INTO mcp_documents.plan_cache (key, plan, made_at) VALUES ($1, $2, $3)
    ON CONFLICT (key) DO UPDATE SET plan = excluded.plan, made_at = excluded.made_at
    """
)
FORGET_CACHED = Statement("DELETE FROM mcp_documents.plan_cache WHERE made_at <= $1")
