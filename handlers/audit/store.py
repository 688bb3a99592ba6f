"""SQL of the audit log, the end of its chain, and the request log with its partitions."""

from bus.statement import Statement

REQUEST_COLUMNS = (
    "at, request_id, method, route, path, operation, status, ms, actor, credential, address, "
    "decision, reason"
)
ENTRY_COLUMNS = (
    "seq, at, door, actor, via, action, resource, resource_id, decision, reason, permission, "
    "policy, request_id, address, credential, details, hash"
)
ADD_REQUESTS = Statement(
    f"""
    INSERT INTO audit.api_requests ({REQUEST_COLUMNS})
    SELECT * FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::text[],
        $6::text[], $7::smallint[], $8::float8[], $9::text[], $10::text[], $11::text[],
        $12::text[], $13::text[])
    """  # noqa: S608 - constants
)
LIST_REQUESTS = Statement(
    f"""
    SELECT id, {REQUEST_COLUMNS} FROM audit.api_requests
    WHERE ($1::text IS NULL OR actor = $1) AND ($2::text IS NULL OR operation = $2)
      AND ($3::int IS NULL OR status = $3) AND ($4::text IS NULL OR decision = $4)
      AND ($5::text IS NULL OR request_id = $5)
      AND ($6::timestamptz IS NULL OR at >= $6) AND ($7::timestamptz IS NULL OR at < $7)
      AND ($8::bigint IS NULL OR id < $8)
    ORDER BY id DESC LIMIT $9
    """  # noqa: S608 - constants
)
HEAD = Statement("SELECT seq, hash FROM audit.head")
LOCK_HEAD = Statement("SELECT seq, hash FROM audit.head FOR UPDATE")
MOVE_HEAD = Statement("UPDATE audit.head SET seq = $1, hash = $2")
ADD_ENTRY = Statement(
    f"""
    INSERT INTO audit.entries ({ENTRY_COLUMNS})
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
    """  # noqa: S608 - constants
)
LIST_ENTRIES = Statement(
    f"""
    SELECT {ENTRY_COLUMNS} FROM audit.entries
    WHERE ($1::text IS NULL OR actor = $1)
      AND ($2::text IS NULL OR action = $2 OR starts_with(action, $2 || '.'))
      AND ($3::text IS NULL OR decision = $3) AND ($4::text IS NULL OR request_id = $4)
      AND ($5::timestamptz IS NULL OR at >= $5) AND ($6::timestamptz IS NULL OR at < $6)
      AND ($7::bigint IS NULL OR seq < $7)
    ORDER BY seq DESC LIMIT $8
    """  # noqa: S608 - constants
)
WALK = Statement(
    f"SELECT {ENTRY_COLUMNS} FROM audit.entries WHERE seq > $1 ORDER BY seq LIMIT $2"  # noqa: S608
)
ADD_DAY = Statement(
    "SELECT audit.add_day(((now() AT TIME ZONE 'UTC') + make_interval(days => $1))::date)"
)
DROP_DAYS = Statement(
    "SELECT audit.drop_days(((now() AT TIME ZONE 'UTC') - make_interval(days => $1))::date)"
)
