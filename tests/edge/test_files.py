"""Files over HTTP: a raw body in, the same bytes out."""

import secrets

import httpx2

from edge.app import Running
from schemas.documents import UPLOAD_BYTES_MAX

CSV = {"content-type": "text/csv"}
ROWS = b"region,orders\n" + b"".join(b"region-%d,%d\n" % (n, n) for n in range(60_000))


async def test_a_file_comes_out_as_it_went_in(http: httpx2.AsyncClient) -> None:
    attached = await http.post("/documents?name=orders.csv", content=ROWS, headers=CSV)
    assert attached.status_code == 201, attached.text
    document = attached.json()
    assert document["size_bytes"] == len(ROWS) > 512 * 1024
    headers = {"accept": "application/octet-stream"}
    content = await http.get(f"/documents/{document['id']}/content", headers=headers)
    assert content.content == ROWS
    assert content.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in content.headers["content-security-policy"]


async def test_the_name_may_stand_in_content_disposition(http: httpx2.AsyncClient) -> None:
    named = {"content-disposition": "attachment; filename*=UTF-8''b%C3%A4r.csv"}
    attached = await http.post("/documents", content=b"a,b\n1,2\n", headers=CSV | named)
    unnamed = await http.post("/documents", content=b"a,b\n1,2\n", headers=CSV)
    assert (attached.status_code, unnamed.status_code) == (201, 400)
    assert "bär.csv" in attached.text


async def test_the_same_upload_twice_is_one_document(http: httpx2.AsyncClient) -> None:
    headers = CSV | {"idempotency-key": secrets.token_hex(8)}
    first = await http.post("/documents?name=a.csv", content=b"a,b\n1,2\n", headers=headers)
    again = await http.post("/documents?name=a.csv", content=b"a,b\n1,2\n", headers=headers)
    other = await http.post("/documents?name=a.csv", content=b"a,b\n1,3\n", headers=headers)
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()
    assert other.status_code == 422


async def test_bad_uploads_are_refused_and_leave_nothing_behind(
    http: httpx2.AsyncClient, edge: Running
) -> None:
    empty = await http.post("/documents?name=a.csv", content=b"", headers=CSV)
    large = await http.post(
        "/documents?name=a.csv", content=b"x" * (UPLOAD_BYTES_MAX + 1), headers=CSV
    )
    packed = await http.post(
        "/documents?name=a.csv", content=b"x", headers=CSV | {"content-encoding": "gzip"}
    )
    unknown = await http.post("/documents?name=a.csv&nope=1", content=b"x", headers=CSV)
    forged = await http.post(
        "/documents",
        json={"name": "a", "upload": {"object": "x", "sha256": "0" * 64, "size_bytes": 1}},
    )
    answers = [empty, large, packed, unknown, forged]
    assert [answer.status_code for answer in answers] == [400, 413, 415, 400, 400]
    stream = await edge.edge.connection.jetstream().stream_info("OBJ_documents-uploads")
    assert stream.state.messages == 0
