"""SQL of documents, their bytes, sections and vectors. Documents are written by their events."""

from bus.statement import Statement

VISIBLE = """
    d.status = 'indexed'
    AND ($2::text IS NULL OR d.created_by = $2 OR d.id = ANY($5::uuid[]))
    AND NOT d.id = ANY($6::uuid[])
    AND ($3::uuid[] IS NULL OR d.id = ANY($3::uuid[]))
"""
FOUND = "s.document_id, d.title, s.ordinal, s.heading, s.body"

GET = Statement("SELECT * FROM mcp_documents.documents WHERE id = $1")
LOCK = Statement("SELECT * FROM mcp_documents.documents WHERE id = $1 FOR UPDATE")
LIST = Statement(
    """
    SELECT * FROM mcp_documents.documents
    WHERE ($1::text IS NULL OR created_by = $1 OR id = ANY($2::uuid[]))
      AND NOT id = ANY($3::uuid[])
      AND CASE WHEN $4::text IS NULL THEN deleted_at IS NULL ELSE status = $4 END
      AND ($5::text IS NULL OR doc_type = $5)
      AND ($6::text IS NULL OR tags @> ARRAY[$6])
      AND ($7::timestamptz IS NULL OR (created_at, id) < ($7, $8::uuid))
    ORDER BY created_at DESC, id DESC LIMIT $9
    """
)
LOCK_CONTENT = Statement("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
SAME = Statement(
    """
    SELECT * FROM mcp_documents.documents
    WHERE created_by = $1 AND content_hash = $2 AND deleted_at IS NULL AND doc_type <> 'artifact'
    """
)
KEEP_BYTES = Statement(
    """
    INSERT INTO documents.blobs (content_hash, bytes) VALUES ($1, $2)
    ON CONFLICT (content_hash) DO NOTHING
    """
)
BYTES = Statement("SELECT bytes FROM documents.blobs WHERE content_hash = $1")
PIECE = Statement(
    "SELECT substring(bytes FROM $2::int + 1 FOR $3::int) AS piece "
    "FROM documents.blobs WHERE content_hash = $1"
)
FORGET_BYTES = Statement(
    """
    DELETE FROM documents.blobs b WHERE content_hash = $1 AND NOT EXISTS
        (SELECT 1 FROM mcp_documents.documents d
         WHERE d.content_hash = b.content_hash AND d.deleted_at IS NULL)
    """
)
FORGET_SECTIONS = Statement("DELETE FROM mcp_documents.sections WHERE document_id = $1")
ADD_SECTION = Statement(
    """
    INSERT INTO mcp_documents.sections (id, document_id, parent_ordinal, ordinal, level, heading,
                                        body, start_offset, end_offset)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
    """
)
LIST_SECTIONS = Statement(
    """
    SELECT document_id, ordinal, level, heading, body, start_offset AS start, end_offset AS "end"
    FROM mcp_documents.sections
    WHERE document_id = $1 AND ($2::int IS NULL OR ordinal > $2)
    ORDER BY ordinal LIMIT $3
    """
)
READ_SECTIONS = Statement(
    """
    SELECT ordinal, level, heading, body, start_offset AS start, end_offset AS "end"
    FROM mcp_documents.sections WHERE document_id = $1 AND start_offset < $2 ORDER BY ordinal
    """
)
WITHOUT_VECTOR = Statement(
    """
    SELECT id, heading, body FROM mcp_documents.sections
    WHERE document_id = $1 AND embedding IS NULL ORDER BY ordinal LIMIT $2
    """
)
SET_VECTOR = Statement(
    """
    UPDATE mcp_documents.sections SET embedding = $2::text::vector, embedding_model = $3
    WHERE id = $1
    """
)
ALL_WORDS = Statement(
    f"""
    SELECT {FOUND}, ts_rank_cd(s.search, query)::float8 AS score
    FROM mcp_documents.sections s JOIN mcp_documents.documents d ON d.id = s.document_id,
         websearch_to_tsquery('english', $1) query
    WHERE s.search @@ query AND {VISIBLE}
    ORDER BY score DESC, s.document_id, s.ordinal LIMIT $4
    """  # noqa: S608
)
# A query that excludes words stays as it is: "not this" or anything would be everything.
ANY_WORD = Statement(
    f"""
    SELECT {FOUND}, ts_rank_cd(s.search, query)::float8 AS score
    FROM mcp_documents.sections s JOIN mcp_documents.documents d ON d.id = s.document_id,
         replace(websearch_to_tsquery('english', $1)::text, ' & ', ' | ') words,
         CAST(words AS tsquery) query
    WHERE position('!' IN words) = 0 AND s.search @@ query AND {VISIBLE}
    ORDER BY score DESC, s.document_id, s.ordinal LIMIT $4
    """  # noqa: S608
)
# Without it an index scan stops after its first 40 rows, whoever may see them.
SCAN_ON = Statement("SELECT set_config('hnsw.iterative_scan', 'strict_order', true)")
NEAREST = Statement(
    f"""
    SELECT {FOUND}, 1 - (s.embedding <=> $1::text::vector) AS score
    FROM mcp_documents.sections s JOIN mcp_documents.documents d ON d.id = s.document_id
    WHERE s.embedding IS NOT NULL AND s.embedding_model = $7 AND {VISIBLE}
    ORDER BY s.embedding <=> $1::text::vector LIMIT $4
    """  # noqa: S608
)
