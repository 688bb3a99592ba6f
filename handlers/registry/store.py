"""SQL of the services. Rows are written by recording events; here they are read."""

from bus.statement import Statement

GET = Statement("SELECT * FROM registry.services WHERE name = $1")
VERSIONS = Statement("SELECT name, version, status FROM registry.services ORDER BY name LIMIT $1")
NAMED = Statement("SELECT * FROM registry.services WHERE name = ANY($1::text[])")
ALL = Statement("SELECT * FROM registry.services ORDER BY name LIMIT $1")
LIST = Statement(
    """
    SELECT * FROM registry.services
    WHERE ($1::text IS NULL OR status = $1) AND ($2::text IS NULL OR name > $2)
    ORDER BY name LIMIT $3
    """
)
