"""Requests that no honest client sends: each is refused once, understood in one way, and logged."""

import asyncio
import gzip
import re
import struct
import time

import orjson
import pytest

from edge import command, protocol
from edge.app import Running
from tests.conftest import settled
from tests.security.raw import Raw, each

ME = b"/api/v1/auth/me"
AGENTS = b"/api/v1/agents"
JSON = b"content-type: application/json"

HOSTS = {
    "none": b"-", "with a space": b"a b", "with a path": b"127.0.0.1/x", "with a user": b"u@127.0.0.1",
    "a list": b"a, b", "a port that is none": b"a:b", "a long port": b"a:123456", "a quote": b'a"b',
    "markup": b"<script>", "not ASCII": b"\xc3\xa9vil", "a tab": b"a\tb", "open bracket": b"[::1",
    "a query": b"a?b", "a backslash": b"a\\b", "too long": b"a" * 300,
}  # fmt: skip


@each("host", HOSTS)
async def test_a_host_that_is_none_is_refused_on_every_kind_of_route(raw: Raw, host: bytes):
    for path in (ME, b"/", b"/health", b"/docs", b"/nowhere"):
        assert (await raw.ask(path, host=host)).status == 400


async def test_two_hosts_are_refused_and_an_honest_one_is_not(raw: Raw):
    assert (await raw.ask(ME, b"host: evil.example")).status == 400
    assert (await raw.ask(ME, b"host: " + raw.host)).status == 400
    for host in (b"portal.example", b"portal.example:8009", b"[::1]:8009", b"edge_1:80"):
        assert (await raw.ask(ME, host=host)).status == 200


TARGETS = {
    b"http://evil.example/api/v1/auth/me": 400,
    b"http://127.0.0.1:1/api/v1/auth/me": 400,
    b"http://admin@%s/api/v1/auth/me": 400,
    b"ftp://%s/api/v1/auth/me": 400,
    b"evil.example:443": 400,
    b"api/v1/auth/me": 400,
    b"\\api\\v1\\auth\\me": 400,
    b"*": 400,
    b"//api/v1/auth/me": 404,
    b"//evil.example/api/v1/auth/me": 404,
    b"/api//v1/auth/me": 404,
    b"/api/v1/auth/me/": 404,
    b"/api/v1/auth/./me": 404,
    b"/api/v1/agents/../auth/me": 404,
    b"/api/v1/agents/%2e%2e/auth/me": 404,
    b"/api/v1/auth%2fme": 404,
    b"/api/v1%2Fauth%2Fme": 404,
    b"/api/v1/auth%5cme": 404,
    b"/api/v1/auth/me%00": 404,
    b"/api/v1/auth/me%0d%0aset-cookie:x": 404,
    b"/api/v1/auth/me;role=admin": 404,
    b"/api/v1/auth/me%ff": 404,
    b"/API/v1/auth/me": 404,
    b"/api/v1/auth/me%20": 404,
    b"/api/v1/auth/%6de": 200,
    b"http://%s/api/v1/auth/me": 200,
    b"/api/v1/auth/me?": 200,
}


@each("target", list(TARGETS))
async def test_a_target_is_routed_as_it_stands_or_not_at_all(raw: Raw, target: bytes):
    named = target.replace(b"%s", raw.host)

    assert (await raw.ask(named)).status == TARGETS[target]
    if TARGETS[target] != 400:
        assert (await raw.ask(named, key=False)).status == 401


@each("prefix", [b"/health", b"/docs", b"/assets", b"/"])
@each("step", [b"/../", b"/..%2f", b"/%2e%2e/", b"/..%5c", b"/.%2e/", b"/..;/"])
async def test_no_open_door_leads_to_a_closed_one(raw: Raw, prefix: bytes, step: bytes):
    for inside in (b"metrics", b"api/v1/auth/me"):
        answer = await raw.ask(prefix + step + inside, key=False)
        assert answer.status in (401, 404)


LENGTHS = {
    "both lengths": [b"content-length: 4", b"transfer-encoding: chunked"],
    "both, the other way": [b"transfer-encoding: chunked", b"content-length: 4"],
    "two lengths": [b"content-length: 4", b"content-length: 5"],
    "a length twice": [b"content-length: 4", b"content-length: 4"],
    "a list of lengths": [b"content-length: 4, 4"],
    "a sign": [b"content-length: +4"],
    "negative": [b"content-length: -4"],
    "hexadecimal": [b"content-length: 0x4"],
    "two numbers": [b"content-length: 4 4"],
    "an endless number": [b"content-length: 99999999999999999999999999"],
    "no number": [b"content-length: four"],
    "chunked is not last": [b"transfer-encoding: chunked, identity"],
    "unknown coding": [b"transfer-encoding: xchunked"],
    "chunked with a control": [b"transfer-encoding: \x0bchunked"],
    "a space before the colon": [b"transfer-encoding : chunked"],
    "a folded coding": [b"transfer-encoding:\r\n chunked"],
    "codings twice": [b"transfer-encoding: chunked", b"transfer-encoding: identity"],
    "chunked twice": [b"transfer-encoding: chunked", b"transfer-encoding: chunked"],
}


@each("lines", LENGTHS)
async def test_an_ambiguous_length_smuggles_no_second_request(raw: Raw, lines: list[bytes]):
    head = [b"POST " + AGENTS + b" HTTP/1.1", b"host: " + raw.host, JSON,
            b"authorization: Bearer " + raw.key.encode(), *lines]  # fmt: skip
    smuggled = b"GET " + ME + b" HTTP/1.1\r\nhost: " + raw.host + b"\r\n\r\n"
    answers = await raw.say(b"\r\n".join([*head, b"", b"0\r\n\r\n"]) + smuggled)

    assert [answer.status for answer in answers] == [400]


HEADS = {
    "folded header": b"x-a: 1\r\n 2",
    "a carriage return": b"x-a: 1\r2",
    "a NUL": b"x-a: 1\x002",
    "NUL in a name": b"x\x00a: 1",
    "a space in a name": b"x a: 1",
    "no colon": b"x-a",
    "no name": b": 1",
    "not ASCII in a name": b"x-\xe9: 1",
    "a delete": b"x-a: \x7f",
}


@each("line", HEADS)
async def test_a_header_that_is_none_is_refused(raw: Raw, line: bytes):
    assert (await raw.ask(ME, line)).status == 400


@each(
    "line",
    [b"authorization: Bearer x", b"origin: http://evil", b"x-request-id: another-id-of-mine"],
)
async def test_a_header_twice_that_may_stand_once_is_refused(raw: Raw, line: bytes):
    name = line.partition(b":")[0]
    answer = await raw.ask(ME, line, name + b": one-more-of-it")

    assert answer.status == 400
    assert answer.json["error"]["details"]["headers"] == [name.decode()]


@each("start", [b"GET /\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"get / HTTP/1.1\r\n\r\n",
              b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/9.9\r\n\r\n",
              b"GARBAGE\r\n\r\n", b"GET /\x01 HTTP/1.1\r\nhost: a\r\n\r\n", struct.pack(">I", 7) * 9])  # fmt: skip
async def test_what_is_not_http_1_is_refused_with_the_headers_of_every_answer(
    raw: Raw, start: bytes
):
    [answer] = await raw.say(start)

    assert answer.status == 400
    assert answer.header("x-content-type-options") == "nosniff"
    assert answer.header("content-security-policy") == "default-src 'none'; frame-ancestors 'none'"
    assert start[:12] not in answer.body


async def test_http_1_0_is_answered_and_closed(raw: Raw):
    assert (await raw.ask(ME, version=b"1.0", host=b"-")).status == 200


@each("filler", [b"x-a: " + b"a" * 40_000, b"\r\n".join(b"x-%d: 1" % n for n in range(150)),
     b"\r\n".join(b"x-%d: %s" % (n, b"b" * 900) for n in range(60))])  # fmt: skip
async def test_a_head_too_long_is_refused(raw: Raw, filler: bytes):
    assert (await raw.ask(ME, filler)).status == 431


async def test_a_head_without_end_is_not_collected(raw: Raw):
    begin = b"GET / HTTP/1.1\r\nhost: a\r\nx-a: "
    answers = await raw.say(begin, *[b"a" * 8192] * 64)

    assert [answer.status for answer in answers] in ([431], [])  # a reset may overtake the answer


async def test_a_head_that_drips_is_not_waited_for(raw: Raw, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(protocol, "HEAD_S", 0.4)
    drops = [b"GET / HTTP/1.1\r\n", b"x: 1\r\n", b"y: 2"]
    answers = await raw.say(*drops, pause_s=0.1)

    assert [answer.status for answer in answers] == [408]
    assert await raw.say(b"") == []  # and a connection that says nothing is closed


async def test_a_body_that_drips_is_not_waited_for(raw: Raw, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(command, "BODY_S_MAX", 0.3)
    monkeypatch.setattr(command, "LINGER_S", 0.1)
    head = [b"POST " + AGENTS + b" HTTP/1.1", b"host: " + raw.host, JSON,
            b"authorization: Bearer " + raw.key.encode(), b"content-length: 900", b"", b""]  # fmt: skip
    answers = await raw.say(b"\r\n".join(head), b" ", b" ", pause_s=0.1)

    assert [answer.status for answer in answers] == [408]


def chunked(raw: Raw, *chunks: bytes) -> bytes:
    head = [b"POST " + AGENTS + b" HTTP/1.1", b"host: " + raw.host, JSON, b"connection: close",
            b"authorization: Bearer " + raw.key.encode(), b"transfer-encoding: chunked"]  # fmt: skip
    return b"\r\n".join([*head, b"", b"".join(chunks)])


BOMBS = {
    "an endless chunk": ([b"FFFFFFFFFFFFFFF\r\n" + b"a" * 400_000], {413}),
    "a size that overflows": ([b"FFFFFFFFFFFFFFFFFF\r\na\r\n"], {400}),
    "a negative size": ([b"-1\r\na\r\n"], {400}),
    "many small ones": ([b"1\r\n \r\n" * 300_000, b"0\r\n\r\n"], {413}),
    "no size": ([b"\r\n\r\n"], {400}),
    "a size with a prefix": ([b"0x1\r\n \r\n"], {400}),
}


@each(("chunks", "statuses"), BOMBS)
async def test_chunks_without_end_are_cut_off(raw: Raw, chunks, statuses):
    answers = await raw.say(chunked(raw, *chunks))

    assert {answer.status for answer in answers} <= statuses
    assert len(answers) == 1


async def test_pipelined_requests_are_answered_in_order_and_a_bad_one_ends_them(raw: Raw):
    line = b"GET %s HTTP/1.1\r\nhost: " + raw.host + b"\r\nx-request-id: pipelined-%d\r\n\r\n"
    good = [line % (b"/health/live", n) for n in range(3)]
    answers = await raw.say(b"".join(good) + b"BAD\r\n\r\n")

    assert [a.header("x-request-id") for a in answers if a.status == 200] in (
        ["pipelined-0", "pipelined-1", "pipelined-2"][:n] for n in range(4)
    )
    assert [a.status for a in answers if a.status != 200] in ([], [400])
    assert [a.status for a in answers[:-1]] == [200] * (len(answers) - 1)


BODIES = {
    "not JSON": (b"{", 400), "a list": (b"[]", 400), "null": (b"null", 400), "a number": (b"1", 400),
    "two documents": (b"{}{}", 400), "a comment": (b'{"name": "x" /* */}', 400),
    "NaN": (b'{"name": NaN}', 400), "a huge number": (b'{"name": ' + b"9" * 10_000 + b"}", 400),
    "a huge exponent": (b'{"name": 1e999999}', 400),
    "a key twice": (b'{"name": "a", "name": "b"}', 400),
    "a key twice, written differently": (b'{"name": "a", "n\\u0061me": "b"}', 400),
    "deep": (b'{"name":' * 20_000 + b"1" + b"}" * 20_000, 400),
    "deep lists": (b'{"name":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
    "many keys": (b"{" + b",".join(b'"k%d":1' % n for n in range(20_000)) + b"}", 400),
    "not UTF-8": (b'{"name": "\xff"}', 400), "half a surrogate": (b'{"name": "\\ud800"}', 400),
    "a NUL": (b'{"name": "a\\u0000b"}', 400), "a byte order mark": (b'\xef\xbb\xbf{"name":"a"}', 400),
    "a field of the entity": (b'{"name": "mass", "owner_id": "eve"}', 400),
    "another field of it": (b'{"name": "mass", "id": "0192", "version": 7}', 400),
    "prototype": (b'{"name": "mass", "__proto__": {"roles": ["admin"]}}', 400),
    "UTF-16": ('{"name": "a"}'.encode("utf-16"), 400),
}  # fmt: skip


@each(("body", "status"), BODIES)
async def test_a_body_that_no_parser_should_like_is_refused_at_once(raw: Raw, body, status):
    began = time.process_time()
    answer = await raw.ask(AGENTS, JSON, method=b"POST", body=body)

    assert answer.status == status, answer.body[:200]
    assert time.process_time() - began < 5  # a bound on the work, not a measurement
    assert len(answer.body) < 4_000


TYPES = {
    "none": [], "text": [b"content-type: text/plain"], "form": [b"content-type: multipart/form-data; boundary=x"],
    "url-encoded": [b"content-type: application/x-www-form-urlencoded"], "empty": [b"content-type:"],
    "XML": [b"content-type: application/xml"], "a list": [b"content-type: application/json, text/plain"],
    "gzip": [JSON, b"content-encoding: gzip"], "two encodings": [JSON, b"content-encoding: identity, gzip"],
}  # fmt: skip


@each("lines", TYPES)
async def test_another_content_type_or_encoding_is_refused(raw: Raw, lines: list[bytes]):
    body = gzip.compress(b" " * 10_000_000) if lines[1:] else b'{"name": "plain"}'

    assert (await raw.ask(AGENTS, *lines, method=b"POST", body=body)).status == 415


async def test_a_body_where_none_is_taken_is_refused(raw: Raw):
    for method in (b"GET", b"DELETE"):
        path = AGENTS + b"/00000000-0000-7000-8000-000000000000" if method == b"DELETE" else AGENTS
        assert (await raw.ask(path, JSON, method=method, body=b"{}")).status in (400, 405)


METHODS = [b"TRACE", b"CONNECT", b"PATCH", b"PROPFIND", b"LOCK", b"PURGE", b"SUBSCRIBE"]


@each("method", METHODS)
async def test_methods_that_nobody_declared_do_nothing(raw: Raw, method: bytes):
    assert (await raw.ask(AGENTS, method=method)).status in (400, 405)
    assert (await raw.ask(AGENTS, b"x-http-method-override: DELETE")).status == 200


IDS = [b"short", b"a" * 65, b"with space here", b'quote"here', b"semi;colon", b"<b>12345678</b>",
       b"a\tb-12345678", b"\xe9\xe9\xe9\xe9\xe9\xe9\xe9\xe9"]  # fmt: skip


@each("given", IDS)
async def test_a_request_id_comes_back_only_if_it_is_harmless(raw: Raw, given: bytes):
    answer = await raw.ask(ME, b"x-request-id: " + given)

    assert re.fullmatch(r"[0-9a-f-]{36}", answer.header("x-request-id") or "")


@each("given", [b"00-zz-1-01", b"x" * 5000, b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01 evil", b"*.>"])  # fmt: skip
async def test_a_trace_that_is_none_never_reaches_the_bus(raw: Raw, platform, given: bytes):
    seen = asyncio.get_running_loop().create_future()

    async def look(message):
        if not seen.done() and b"hunter" in message.data:
            seen.set_result(message.headers)

    subscription = await platform.connection.subscribe("req.agents.create", cb=look)
    await settled(platform.connection)
    await raw.ask(
        AGENTS, JSON, b"traceparent: " + given, method=b"POST", body=b'{"name": "hunter"}'
    )
    headers = await asyncio.wait_for(seen, 10)
    await subscription.unsubscribe()

    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", headers["traceparent"])


async def test_nothing_that_is_sent_breaks_a_line_of_the_log(
    raw: Raw, edge: Running, capsys: pytest.CaptureFixture[str]
):
    edge.edge.journal._enabled = True
    forged = b'%0a{"event":"request","actor":"forged"}%0d%0a%1b[31m%00'
    sent = [
        await raw.ask(b"/api/v1/agents/" + forged.replace(b'"', b"%22")),
        await raw.ask(ME + b"?a=" + forged.replace(b'"', b"%22")),
        await raw.ask(ME, b"x-request-id: 12345678\\n{}"),
        await raw.ask(b"/api/v1/" + raw.key.encode(), b"x-api-key: " + raw.key.encode()),
    ]
    edge.edge.journal.write()
    lines = [line for line in capsys.readouterr().err.split("\n") if '"request"' in line]

    assert len(lines) == len(sent)
    entries = [orjson.loads(line) for line in lines]
    assert {entry["actor"] for entry in entries} == {"admin"}
    assert all(line.isprintable() for line in lines)
    assert raw.key.split("_", 2)[2] not in "".join(lines)
    assert "?" not in entries[1]["path"]
