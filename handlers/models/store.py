"""SQL of the usage of models: one row for each answered call, summed on demand."""

from bus.statement import Statement

COUNT = Statement(
    """
    INSERT INTO models.llm_usage (id, at, actor, goal_id, model, purpose, key, prompt_tokens,
                                  completion_tokens, duration_ms, run_id)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
    """
)
USED_BY_RUN = Statement(
    """
    SELECT coalesce(sum(prompt_tokens + completion_tokens), 0)::bigint AS tokens
    FROM models.llm_usage WHERE run_id = $1
    """
)
REPORT = Statement(
    """
    SELECT model, purpose, count(*)::int AS calls,
           (count(key) - count(DISTINCT key))::int AS repeated,
           sum(prompt_tokens)::bigint AS prompt_tokens,
           sum(completion_tokens)::bigint AS completion_tokens,
           sum(duration_ms)::bigint AS duration_ms
    FROM models.llm_usage
    WHERE at >= $1 AND ($2::uuid IS NULL OR goal_id = $2)
      AND ($3::text IS NULL OR actor = $3 OR goal_id = ANY($4::uuid[]))
      AND (goal_id IS NULL OR NOT goal_id = ANY($5::uuid[]))
    GROUP BY model, purpose ORDER BY calls DESC, model, purpose LIMIT 1000
    """
)
