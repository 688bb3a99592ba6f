"""Secrets are planted in every input of a whole installation; then every place is searched."""

import contextlib
import gzip
import http.server
import threading
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit
from urllib.request import urlopen

import httpx2
import nats
import psycopg
import pytest
from redis import Redis

from bus import credentials
from tests.conftest import eventually
from tests.factories import calculation
from tests.load.machine import running
from tests.servers import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
MARKER = "canary-agent"


@pytest.fixture(scope="module")
def collector():
    """An OpenTelemetry collector that keeps what it is sent."""
    received = []

    class Keep(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            packed = self.headers.get("content-encoding") == "gzip"
            received.append(gzip.decompress(body) if packed else body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    port = free_port()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Keep)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield SimpleNamespace(url=f"http://127.0.0.1:{port}/v1/traces", received=received)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def canaries():
    """What is planted: name and value, each unlike anything else."""
    names = (
        "provider", "provider-again", "password", "cookie", "basic", "query", "header", "unknown-field",
        "proxy", "wrong-type",
    )  # fmt: skip
    return {
        name: f"CANARY{credentials.new_credential('key').id}{number}"
        for number, name in enumerate(names)
    }


@pytest.fixture(scope="module")
def planted(collector, canaries):
    """The installation after everything was sent; with what it answered."""
    extra = {"PORTAL_OTLP_URL": collector.url, "PORTAL_LOG_LEVEL": "debug"}
    wrong = credentials.new_credential("key").text
    with running(**extra, PORTAL_API_KEY=wrong) as machine:
        with httpx2.Client(base_url=machine.edge, timeout=30) as client:
            answers = [client.request(**one) for one in requests(canaries, wrong, machine.key)]
            issued = issue(client, machine.key)
            run_goal(client, machine.key, answers)
        secrets = {
            **canaries,
            "admin key": secret_in(machine.key),
            "wrong key": secret_in(wrong),
            "issued key": secret_in(issued),
            **installation_secrets(Path(machine.status["data"]) / "secrets"),
        }
        yield SimpleNamespace(
            machine=machine, answers=answers, secrets=secrets, collector=collector,
            data=Path(machine.status["data"]),
        )  # fmt: skip


def secret_in(key):
    """The secret part of an API key."""
    return credentials.read_credential("key", key)[1]


def installation_secrets(folder):
    """Passwords, keys and addresses of the servers, as they are kept."""
    found = {}
    for path in folder.rglob("*"):
        if path.suffix == ".password":
            found[path.name] = path.read_text().strip()
        elif path.name.endswith("_url"):
            password = urlsplit(path.read_text()).password
            found[f"{path.parent.name}/{path.name}"] = password
        elif path.name == "master.key":
            for line in path.read_text().splitlines():
                found[f"master {line.split()[0]}"] = line.split()[1]
        elif path.suffix == ".key" and path.name != "admin.key":
            found[path.name] = path.read_text().splitlines()[1]
    return {name: value for name, value in found.items() if value}


def requests(canary, wrong, key):
    """Requests that carry a canary wherever a request can carry one."""
    admin = {"authorization": f"Bearer {key}"}
    put = "/api/v1/secrets/openai"
    yield {"method": "PUT", "url": put, "headers": admin, "json": {"value": canary["provider"]}}
    yield {"method": "PUT", "url": put, "json": {"value": canary["provider-again"]},
           "headers": admin | {"idempotency-key": "once"}}  # fmt: skip
    yield {"method": "PUT", "url": put, "headers": admin,
           "json": {"value": "x", "more": canary["unknown-field"]}}  # fmt: skip
    yield {"method": "PUT", "url": put, "headers": admin, "json": {"value": [canary["wrong-type"]]}}
    yield {"method": "GET", "url": "/api/v1/secrets", "headers": admin}
    yield {"method": "POST", "url": "/api/v1/auth/login",
           "json": {"login": "ada", "password": canary["password"]}}  # fmt: skip
    yield {
        "method": "GET",
        "url": "/api/v1/agents",
        "headers": {"authorization": f"Bearer {wrong}"},
    }
    yield {"method": "GET", "url": "/api/v1/agents", "headers": {"x-api-key": canary["header"]}}
    yield {"method": "GET", "url": "/api/v1/agents", "headers": {"cookie": f"s={canary['cookie']}"}}
    yield {"method": "GET", "url": "/api/v1/agents",
           "headers": {"authorization": f"Basic {canary['basic']}"}}  # fmt: skip
    yield {"method": "GET", "url": "/api/v1/agents", "params": {"token": canary["query"]}}
    yield {"method": "GET", "url": "/api/v1/agents", "params": {"api_key": canary["query"]},
           "headers": admin}  # fmt: skip
    yield {"method": "GET", "url": "/api/v1/agents",
           "headers": admin | {"referer": f"http://a:{canary['proxy']}@h/"}}  # fmt: skip
    yield {"method": "POST", "url": "/api/v1/agents", "headers": admin, "json": {"name": MARKER}}


def issue(client, key):
    """A fresh API key, used once."""
    admin = {"authorization": f"Bearer {key}"}
    made = client.post("/api/v1/api-keys", json={"name": "canary"}, headers=admin).json()["secret"]
    used = client.get("/api/v1/auth/me", headers={"authorization": f"Bearer {made}"})
    assert used.status_code == 200
    return made


def run_goal(client, key, answers):
    """One goal to its end, so that jobs, reactions and streams have worked."""
    admin = {"authorization": f"Bearer {key}"}
    task = calculation("one").model_dump(mode="json")
    body = {"description": "Compute", "tasks": [task]}
    answers.append(client.post("/api/v1/goals", json=body, headers=admin))
    goal = answers[-1].json()["id"]
    for _ in range(300):
        answer = client.get(f"/api/v1/goals/{goal}", headers=admin)
        if answer.json()["status"] in ("completed", "failed"):
            answers.append(answer)
            return
        with contextlib.suppress(httpx2.HTTPError):  # at most 0.2 s each: the server holds it
            client.get("/api/v1/events", headers=admin, params={"limit": 1})
    raise AssertionError("the goal did not end")


def found_in(planted, told):
    """The names of the secrets that are in this text or these bytes, plain or in hex."""
    text = told if isinstance(told, str) else told.decode("utf-8", errors="replace")
    return [
        name
        for name, secret in planted.secrets.items()
        if secret in text or secret.encode().hex() in text
    ]


def secret_of(planted, name):
    return (planted.data / "secrets" / name).read_text().strip()


def test_the_requests_were_understood(planted):
    codes = [answer.status_code for answer in planted.answers]
    assert codes.count(200) >= 5
    assert codes.count(400) >= 2
    assert codes.count(401) >= 4
    assert 500 not in codes
    assert len(planted.secrets) >= 20


def test_no_answer_repeats_a_secret(planted):
    for answer in planted.answers:
        told = answer.text + str(dict(answer.headers))
        assert found_in(planted, told) == [], answer.request.url


def test_no_log_holds_a_secret(planted):
    logs = list((planted.data / "logs").glob("*.log"))
    assert {"edge.log", "handlers.log", "nats.log", "postgres.log"} <= {log.name for log in logs}
    assert "secret read" in (planted.data / "logs" / "handlers.log").read_text()
    for log in logs:
        assert found_in(planted, log.read_bytes()) == [], log.name


def test_the_console_of_a_program_names_the_file_of_the_admin_key_and_not_the_key(planted):
    console = (planted.data / "up.log").read_bytes()
    assert b"admin.key" in console
    assert found_in(planted, console) == []


async def test_no_span_holds_a_secret(planted):
    async def sent():
        return b"agents.create" in b"".join(planted.collector.received)

    await eventually(sent)  # spans are sent in batches
    assert found_in(planted, b"".join(planted.collector.received)) == []


def test_no_table_holds_a_secret(planted):
    with psycopg.connect(secret_of(planted, "migrate/portal_postgres_url")) as connection:
        tables = connection.execute(
            """
            SELECT n.nspname || '.' || c.relname FROM pg_class c
            JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND NOT c.relispartition
              AND n.nspname <> 'information_schema'
            """
        ).fetchall()
        dumped = {name: dump(connection, name) for (name,) in tables}
        statements = dump(connection, "public.pg_stat_statements")
    assert MARKER in dumped["mcp_documents.events"]
    assert MARKER in dumped["mcp_documents.agents"]
    assert dumped["ops.idempotency"]
    assert "sealed1." in dumped["vault.sealed"]
    assert "mcp_documents" in statements
    for name, text in (dumped | {"pg_stat_statements": statements}).items():
        assert found_in(planted, text) == [], name


def dump(connection, table):
    rows = connection.execute(f"SELECT t::text FROM {table} t").fetchall()
    return "\n".join(row[0] for row in rows)


async def test_no_stream_of_the_bus_holds_a_secret(planted):
    seed = secret_of(planted, "nats/admin.seed")
    connection = await nats.connect(
        secret_of(planted, "portal_nats_url"), nkeys_seed_str=seed, inbox_prefix="_INBOX.admin"
    )
    jetstream, told = connection.jetstream(), []
    for stream in await jetstream.streams_info():
        for sequence in range(max(stream.state.first_seq, 1), stream.state.last_seq + 1):
            with contextlib.suppress(nats.js.errors.NotFoundError):
                message = await jetstream.get_msg(stream.config.name, sequence)
                told.append(f"{message.subject} {message.headers} {message.data}")
    await connection.close()
    assert any(MARKER in one for one in told)
    assert found_in(planted, "\n".join(told)) == []


def test_no_cache_holds_a_secret(planted):
    bearer = {"authorization": f"Bearer {planted.machine.key}"}
    with Redis.from_url(secret_of(planted, "portal_redis_url")) as redis:
        httpx2.get(f"{planted.machine.edge}/api/v1/agents", headers=bearer)  # counts live briefly
        keys = list(redis.scan_iter())
        told = b"\n".join(keys) + b"\n".join(redis.dump(key) or b"" for key in keys)
        redis.connection_pool.disconnect()
    assert keys
    assert found_in(planted, told) == []


def test_no_metric_holds_a_secret(planted):
    for name in ("handlers", "edge"):
        port = environment(planted.machine.pids()[name])["PORTAL_HEALTH_PORT"]
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            metrics = answer.read()
        assert b"portal_" in metrics
        assert found_in(planted, metrics) == [], name


def environment(pid):
    """The environment with which a process was started."""
    raw = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    return dict(entry.partition("=")[::2] for entry in raw.split("\0") if entry)


def test_no_process_shows_a_secret_to_those_who_list_processes(planted):
    for name, pid in planted.machine.pids().items():
        for place in ("cmdline", "environ"):
            told = Path(f"/proc/{pid}/{place}").read_bytes()
            assert told, (name, place)
            assert found_in(planted, told) == [], (name, place)


def test_no_file_but_those_of_secrets_and_servers_holds_a_secret(planted):
    kept = ("secrets", "logs", "nats", "valkey", "postgres")
    files = [
        path
        for path in planted.data.rglob("*")
        if path.is_file() and path.relative_to(planted.data).parts[0] not in kept
    ]
    assert {"state.json", "ports.json"} <= {path.name for path in files}
    for path in files:
        assert found_in(planted, path.read_bytes()) == [], path


def test_what_holds_a_secret_can_be_read_by_its_owner_only(planted):
    for path in planted.data.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file() and path.stat().st_size < 1_000_000 and path.stat().st_mode & 0o077:
                above = [p for p in path.parents if p.is_relative_to(planted.data)]
                closed = any(p.stat().st_mode & 0o077 == 0 for p in above)
                assert closed or found_in(planted, path.read_bytes()) == [], path


def test_the_search_finds_what_it_looks_for(planted):
    for name, secret in planted.secrets.items():
        assert name in found_in(planted, f"before {secret} after")
        assert name in found_in(planted, b"\xff" + secret.encode().hex().encode())
