"""SQL of tools and their calls. Rows are written by recording events; here they are read."""

from bus.statement import Statement

NEWEST = "string_to_array(tool_version, '.')::int[] DESC"
FIND = Statement(
    f"""
    SELECT * FROM mcp_documents.tool_definitions
    WHERE name = $1 AND ($2::text IS NULL OR tool_version = $2)
    ORDER BY status <> 'active', {NEWEST} LIMIT 1
    """  # noqa: S608 - constants
)
GET = Statement("SELECT * FROM mcp_documents.tool_definitions WHERE id = $1")
EXACT = Statement(
    "SELECT * FROM mcp_documents.tool_definitions WHERE name = $1 AND tool_version = $2"
)
OWNERS = Statement("SELECT DISTINCT created_by FROM mcp_documents.tool_definitions WHERE name = $1")
BUILTIN = Statement("SELECT * FROM mcp_documents.tool_definitions WHERE kind = 'builtin'")
OF_CREATOR = Statement("SELECT * FROM mcp_documents.tool_definitions WHERE created_by = $1")
LIST = Statement(
    """
    SELECT * FROM mcp_documents.tool_definitions
    WHERE ($1::text IS NULL OR category = $1)
      AND ($2::text IS NULL OR status = $2)
      AND ($3::text IS NULL OR (name, id) > ($3, $4::uuid))
    ORDER BY name, id LIMIT $5
    """
)
SEARCH = Statement(
    f"""
    WITH newest AS (
        SELECT DISTINCT ON (name) *, translate(name, '._', '  ') || ' ' || description AS words
        FROM mcp_documents.tool_definitions WHERE status = 'active' ORDER BY name, {NEWEST}
    ), question AS (
        SELECT replace(plainto_tsquery('english', $1)::text, '&', '|')::tsquery AS asked
    ), scored AS (
        SELECT newest.*, (2 * ts_rank(to_tsvector('english', words), asked, 1)
                          + word_similarity(name, $1) + similarity(words, $1))::float AS score
        FROM newest, question
        WHERE to_tsvector('english', words) @@ asked OR word_similarity($1, words) > 0.35
    )
    SELECT * FROM scored ORDER BY score DESC, name LIMIT $2
    """  # noqa: S608 - constants
)
ONE_AT_A_TIME = Statement("SELECT pg_advisory_xact_lock(hashtext('tools-of-' || $1))")

INVOCATION = Statement("SELECT * FROM mcp_documents.tool_invocations WHERE id = $1")
INVOCATIONS = Statement(
    """
    SELECT * FROM mcp_documents.tool_invocations
    WHERE ($1::text IS NULL OR tool_name = $1)
      AND ($2::text IS NULL OR status = $2)
      AND ($3::uuid IS NULL OR goal_id = $3)
      AND ($4::uuid IS NULL OR task_id = $4)
      AND ($5::timestamptz IS NULL OR (requested_at, id) < ($5, $6::uuid))
    ORDER BY requested_at DESC, id DESC LIMIT $7
    """
)
