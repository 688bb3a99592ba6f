"""Small files, and how tests attach them and wait until they are read."""

import hashlib

from bus.clock import Clock
from bus.topology import UPLOADS
from schemas import documents
from schemas.documents import (
    AttachDocument,
    GetDocument,
    Upload,
)
from tests.conftest import eventually

CRANE = b"# Harbour crane\n\nThe crane lifted 42 tonnes. The brake was worn.\n\n## Repair\n\nNew seal.\n"
BAKERY = b"# Bakery\n\nThe oven was cleaned. Forty loaves of bread were baked before dawn.\n"
REPORT_A = b"# Outage\n\nThe outage began at 14:05 UTC. 17 customers were affected by the outage.\n"
REPORT_B = b"# Outage\n\nThe outage began at 14:25 UTC. 23 customers were affected by the outage.\n"
HTML = b"<html><head><title>Pump</title></head><body><h1>Pump</h1><p>It failed.</p></body></html>"
CSV = b"order,region,amount\n1,north,10.5\n2,south,7\n3,north,3\n"


def attach(content, name="a.md", **fields):
    return AttachDocument(name=name, content=content, **fields)


def pdf(*lines):
    """A small PDF of one page."""
    text = " ".join(f"({line}) Tj T*" for line in lines)
    stream = f"BT /F1 14 Tf 72 720 Td 20 TL {text} ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [5 0 R] /Count 1 >>",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R "
        b"/Resources << /Font << /F1 3 0 R >> >> >>",
    ]
    out, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    tail = b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n" % (len(objects) + 1, len(out))
    return out + head + table + tail + b"%%EOF"


async def settled(ask, document, timeout_s=60):
    """The document when nobody works on it any more."""

    async def at_rest():
        now = await ask(documents.get, GetDocument(id=document.id))
        return now if now.status in ("indexed", "failed") else None

    return await eventually(at_rest, timeout_s)


async def indexed(ask, content, name="a.md", **fields):
    document = await settled(ask, await ask(documents.attach, attach(content, name, **fields)))
    assert document.status == "indexed", document.status_reason
    return document


async def upload(client, content, **announced):
    """Put bytes where the edge would have put them."""
    store = await client.connection.jetstream().object_store(UPLOADS)
    name = Clock().new_id()
    await store.put(name, content)
    digest = hashlib.sha256(content).hexdigest()
    fields = {"object": name, "sha256": digest, "size_bytes": len(content)}
    return Upload(**(fields | announced))
