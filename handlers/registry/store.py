"""SQL of the services. Rows are written by recording events; what they are watched by is ours."""

from bus.statement import Statement

GET = Statement("SELECT * FROM registry.services WHERE name = $1")
LOCK = Statement(
    """
    SELECT s.*, to_jsonb(w) - 'service_id' - 'look_at' AS watch
    FROM registry.services s LEFT JOIN registry.watches w ON w.service_id = s.id
    WHERE s.name = $1 FOR UPDATE OF s
    """
)
LOOKED_FOR = Statement(
    """
    SELECT s.name, s.version, coalesce((w.health ->> 'present')::boolean, true) AS present
    FROM registry.services s LEFT JOIN registry.watches w ON w.service_id = s.id
    WHERE (s.owner_id IS NULL AND s.status <> 'lost') OR s.name = ANY($1::text[])
    ORDER BY s.name LIMIT $2
    """
)
NAMED = Statement("SELECT * FROM registry.services WHERE name = ANY($1::text[])")
ALL = Statement("SELECT * FROM registry.services ORDER BY name LIMIT $1")
OWNED = Statement(
    "SELECT count(*) AS number FROM registry.services WHERE owner_id = $1 AND status <> 'lost'"
)
CHOSEN = """
    (($1::text IS NULL AND status <> 'lost') OR status = $1)
    AND ($2::text IS NULL OR layer = $2)
    AND coalesce(string_to_array(metadata ->> 'tags', ','), '{}') @> $3::text[]
"""
LIST = Statement(
    f"""
    SELECT * FROM registry.services
    WHERE {CHOSEN} AND ($4::text IS NULL OR name > $4) ORDER BY name LIMIT $5
    """  # noqa: S608 - constants
)
LIST_LIKE = Statement(
    f"""
    SELECT * FROM registry.services
    WHERE {CHOSEN} AND (name || ' ' || description) %> $4
      AND ($5::text IS NULL OR name > $5) ORDER BY name LIMIT $6
    """  # noqa: S608 - constants
)

KEEP = Statement(
    """
    INSERT INTO registry.watches AS w
    SELECT * FROM jsonb_populate_record(NULL::registry.watches, $1::jsonb)
    ON CONFLICT (service_id) DO UPDATE
    SET health = excluded.health, lease_s = excluded.lease_s, lease_until = excluded.lease_until,
        remove_after_s = excluded.remove_after_s, health_subject = excluded.health_subject,
        check_every_s = excluded.check_every_s, look_at = excluded.look_at,
        check_at = CASE WHEN excluded.health_subject IS NOT NULL
                   THEN coalesce(w.check_at, excluded.check_at) END
    """
)
DUE = Statement(
    """
    SELECT name FROM registry.services
    WHERE id IN (SELECT service_id FROM registry.watches WHERE look_at <= $1)
       OR (owner_id IS NOT NULL AND status <> 'lost'
           AND id NOT IN (SELECT service_id FROM registry.watches))
    LIMIT $2
    """
)
TAKE_CHECKS = Statement(
    """
    UPDATE registry.watches w
    SET check_at = $1::timestamptz + make_interval(secs => w.check_every_s)
    FROM registry.services s
    WHERE s.id = w.service_id AND w.service_id IN (
        SELECT service_id FROM registry.watches WHERE check_at <= $1
        ORDER BY check_at LIMIT $2 FOR UPDATE SKIP LOCKED)
    RETURNING s.name, w.health_subject
    """
)
