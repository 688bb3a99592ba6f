"""Documents: what was attached or written, cut into sections that can be found and compared."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints

from schemas.contract import (
    Entity,
    Event,
    Id,
    Job,
    Json,
    Listing,
    Operation,
    Page,
    Problem,
    Schema,
    Text,
    Title,
)  # fmt: skip
from schemas.problems import IllegalMove, NotFound, TooLarge, Unavailable
from schemas.supervision import Work

UPLOAD_BYTES_MAX = 8 * 1024 * 1024
INLINE_BYTES_MAX = 512 * 1024
Status = Literal["received", "parsing", "sectioned", "embedded", "indexed", "failed", "deleted"]
FileName = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f/\\]{1,255}$")]
MediaType = Annotated[str, StringConstraints(pattern=r"^[\w.+-]+/[\w.+-]+(; ?[\w=.+-]+)*$")]
Tag = Annotated[str, StringConstraints(pattern=r"^[\w.-]{1,64}$")]


class Document(Entity, table="mcp_documents.documents"):
    """A file that was attached, or an artifact that an agent wrote."""

    title: str
    source_uri: str
    doc_type: str
    media_type: str | None
    content_hash: str
    size_bytes: int
    language: str | None
    status: Status
    status_reason: str | None
    sections: int
    tags: tuple[str, ...]
    metadata: Json
    created_by: str
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None


class Section(Schema):
    """A piece of a document, small enough to be read by a model."""

    document_id: Id
    ordinal: int
    level: int
    heading: str
    body: str
    start: int
    end: int


class Upload(Schema):
    """Where the edge has put the bytes of an upload."""

    object: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$")]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    size_bytes: int = Field(ge=1, le=UPLOAD_BYTES_MAX)


class AttachDocument(Schema):
    """Attach a file: raw as the request's body, or as base64 in `content`."""

    model_config = ConfigDict(val_json_bytes="base64")

    name: FileName = Field(description="The file's name; its ending is only a hint.")
    media_type: MediaType | None = None
    content: bytes | None = Field(None, description="Base64, for small files.")
    upload: Upload | None = Field(None, description="Set by the edge for a raw body.")
    tags: tuple[Tag, ...] = Field((), max_length=20)


class WriteArtifact(Schema):
    """Store a text that was produced here, with what each part of it came from."""

    title: Title
    body: Text
    media_type: MediaType = "text/markdown"
    provenance: tuple[Json, ...] = Field((), max_length=1000)
    tags: tuple[Tag, ...] = Field((), max_length=20)


class GetDocument(Schema):
    """Show one document."""

    id: Id


class ReprocessDocument(Schema):
    """Read a document again from its bytes; answers with a job."""

    id: Id


class DeleteDocument(Schema):
    """Delete a document; its events stay."""

    id: Id


class ListDocuments(Listing):
    """List documents, newest first."""

    status: Status | None = None
    doc_type: str | None = None
    tag: Tag | None = None


class GetContent(Schema):
    """Read the bytes of a document, in pieces of at most 512 KiB."""

    id: Id
    offset: int = Field(0, ge=0)


class Content(Schema):
    """A piece of a document's bytes."""

    model_config = ConfigDict(val_json_bytes="base64")

    name: str
    media_type: str | None
    size_bytes: int
    offset: int
    content: bytes = Field(description="Base64.")


class ListSections(Listing):
    """List the sections of a document, in order."""

    id: Id


class SearchDocuments(Schema):
    """Find sections by words and by meaning."""

    q: str = Field(min_length=1, max_length=2_000)
    document_ids: tuple[Id, ...] = Field((), max_length=50)
    mode: Literal["text", "vector", "hybrid"] = "hybrid"
    limit: int = Field(8, ge=1, le=50)


class Found(Schema):
    """One section that fits, with its place."""

    document_id: Id
    title: str
    ordinal: int
    heading: str
    body: str
    score: float


class Findings(Schema):
    """Sections that fit, best first."""

    items: tuple[Found, ...]


class ExtractClaims(Schema):
    """List what a document claims, with the exact sentences and the values in them."""

    id: Id
    limit: int = Field(200, ge=1, le=500)


class Claims(Schema):
    """Claims of one document; each quotes its sentence exactly."""

    document_id: Id
    total: int
    items: tuple[Json, ...]


class CompareDocuments(Schema):
    """Find the claims on which documents disagree."""

    document_ids: tuple[Id, ...] = Field(min_length=2, max_length=6)


class Comparison(Schema):
    """Where documents disagree, with exact quotes."""

    document_ids: tuple[Id, ...]
    claims: int
    disagreements: tuple[Json, ...]


class SummarizeDocuments(Schema):
    """Pick the sentences that carry the most of the documents' meaning."""

    document_ids: tuple[Id, ...] = Field(min_length=1, max_length=6)
    sentences: int = Field(8, ge=1, le=40)
    query: str | None = Field(None, max_length=2_000)


class KeySentences(Schema):
    """Exact sentences with the section that each stands in."""

    items: tuple[Json, ...]


class Unreadable(Problem, code="ERR_120", status=400):
    """The file cannot be read as what it is."""


class UploadMissing(Problem, code="ERR_121", status=409):
    """The bytes of the upload are not there, or are not what was announced."""


class NotIndexed(Problem, code="ERR_122", status=409, retryable=True):
    """The document is not read yet."""


class DocumentReceived(Event, name="documents.received"):
    """A document's bytes are stored."""

    document: Document


class DocumentParsing(Event, name="documents.parsing"):
    """A worker has begun to read it."""

    document: Document


class DocumentSectioned(Event, name="documents.sectioned"):
    """Its text is cut into sections."""

    document: Document


class DocumentEmbedded(Event, name="documents.embedded"):
    """Its sections have vectors."""

    document: Document


class DocumentIndexed(Event, name="documents.indexed"):
    """It can be found."""

    document: Document


class DocumentFailed(Event, name="documents.failed", category="error"):
    """It cannot be read; `status_reason` says why."""

    document: Document


class DocumentDeleted(Event, name="documents.deleted"):
    """It was deleted."""

    document: Document


class Ingest(Job, name="documents.ingest", workers=2, attempts=5, timeout_s=180):
    """Read a document: sections, vectors, index."""

    document_id: Id


attach = Operation(
    "documents.attach", AttachDocument, Document, rest="POST /documents -> 201",
    may="documents:create", problems=(Unreadable, UploadMissing, TooLarge),
    emits=(DocumentReceived,), idempotent=True, timeout_s=15,
    body_bytes_max=UPLOAD_BYTES_MAX, upload="upload",
)  # fmt: skip
write = Operation(
    "documents.write", WriteArtifact, Document, may="documents:create",
    emits=(DocumentReceived,), idempotent=True, timeout_s=10,
    runs="within",
)  # fmt: skip
listing = Operation(
    "documents.list", ListDocuments, Page[Document], rest="GET /documents", may="documents:read"
)
get = Operation(
    "documents.get", GetDocument, Document, rest="GET /documents/{id}", may="documents:read",
    problems=(NotFound,),
    runs="within",
)  # fmt: skip
delete = Operation(
    "documents.delete", DeleteDocument, Document, rest="DELETE /documents/{id}",
    may="documents:delete", problems=(NotFound, IllegalMove), emits=(DocumentDeleted,),
    idempotent=True,
)  # fmt: skip
reprocess = Operation(
    "documents.reprocess", ReprocessDocument, Work, rest="POST /documents/{id}/reprocess -> 202",
    may="documents:update", problems=(NotFound,), kind="task", timeout_s=180, workers=2,
)  # fmt: skip
content = Operation(
    "documents.content", GetContent, Content, rest="GET /documents/{id}/content",
    may="documents:read", problems=(NotFound,),
    runs="within",
)  # fmt: skip
sections = Operation(
    "documents.sections", ListSections, Page[Section], rest="GET /documents/{id}/sections",
    may="documents:read", problems=(NotFound,),
    runs="within",
)  # fmt: skip
search = Operation(
    "documents.search", SearchDocuments, Findings, rest="POST /documents/search",
    may="documents:read", problems=(Unavailable,), timeout_s=15,
    runs="within",
)  # fmt: skip
claims = Operation(
    "documents.claims", ExtractClaims, Claims, rest="GET /documents/{id}/claims",
    may="documents:read", problems=(NotFound, NotIndexed), timeout_s=20,
    runs="within",
)  # fmt: skip
compare = Operation(
    "documents.compare", CompareDocuments, Comparison, rest="POST /documents/compare",
    may="documents:read", problems=(NotFound, NotIndexed, TooLarge), timeout_s=60, workers=2,
    runs="within",
)  # fmt: skip
summarize = Operation(
    "documents.summarize", SummarizeDocuments, KeySentences, rest="POST /documents/summarize",
    may="documents:read", problems=(NotFound, NotIndexed), timeout_s=20, workers=4,
    runs="within",
)  # fmt: skip
