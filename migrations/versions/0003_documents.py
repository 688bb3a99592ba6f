"""Documents, their sections and bytes.

Why: goals work on attached documents.
Safe while the old code runs: yes, it only adds.
"""

from migrations.statements import run

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

UP = """
CREATE SCHEMA documents;
CREATE TABLE mcp_documents.documents (
    id uuid PRIMARY KEY,
    version int NOT NULL,
    title text NOT NULL,
    source_uri text NOT NULL,
    doc_type text NOT NULL,
    media_type text,
    content_hash text NOT NULL,
    size_bytes bigint NOT NULL,
    language text,
    status text NOT NULL,
    status_reason text,
    sections int NOT NULL,
    tags text[] NOT NULL,
    metadata jsonb NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    deleted_at timestamptz
);
CREATE UNIQUE INDEX documents_created_by_content_hash_key
    ON mcp_documents.documents (created_by, content_hash)
    WHERE deleted_at IS NULL AND doc_type <> 'artifact';
CREATE INDEX documents_created_at_idx ON mcp_documents.documents (created_at DESC, id);
CREATE INDEX documents_status_idx ON mcp_documents.documents (status);
CREATE INDEX documents_tags_idx ON mcp_documents.documents USING gin (tags);
CREATE INDEX documents_title_idx ON mcp_documents.documents USING gin (title gin_trgm_ops);

-- Vectors shorter than 768 are padded with zeros, which leaves their cosine as it was.
CREATE TABLE mcp_documents.sections (
    id uuid PRIMARY KEY,
    document_id uuid NOT NULL REFERENCES mcp_documents.documents ON DELETE CASCADE,
    parent_ordinal int,
    ordinal int NOT NULL,
    level int NOT NULL,
    heading text NOT NULL,
    body text NOT NULL,
    start_offset int NOT NULL,
    end_offset int NOT NULL,
    search tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('english', heading), 'A') || to_tsvector('english', body)
    ) STORED,
    embedding vector(768),
    embedding_model text,
    UNIQUE (document_id, ordinal)
);
CREATE INDEX sections_search_idx ON mcp_documents.sections USING gin (search);
CREATE INDEX sections_embedding_idx
    ON mcp_documents.sections USING hnsw (embedding vector_cosine_ops);

CREATE TABLE documents.blobs (
    content_hash text PRIMARY KEY,
    bytes bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
-- Not compressed, so that a piece is read without reading all before it.
ALTER TABLE documents.blobs ALTER COLUMN bytes SET STORAGE EXTERNAL;
"""

DOWN = """
DROP SCHEMA documents CASCADE;
DROP TABLE mcp_documents.sections;
DROP TABLE mcp_documents.documents;
"""


def upgrade() -> None:
    """Create."""
    run(UP)


def downgrade() -> None:
    """Drop."""
    run(DOWN)
