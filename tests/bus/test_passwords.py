"""A role's password is replaced while the platform works, and its age is known."""

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial

import psycopg
import pytest
from prometheus_client import REGISTRY

from bus import doctor, passwords
from bus.__main__ import main
from bus.clock import Clock
from bus.database import Database
from bus.secrets import Chain, Files
from bus.statement import Statement
from schemas.problems import DependencyDown
from tests.conftest import RUNTIME_PASSWORD, eventually

ONE = Statement("SELECT 1 AS one")
PID = Statement("SELECT pg_backend_pid() AS pid")


@pytest.fixture
def folders(tmp_path, settings, database_url):
    """The secrets of the platform and of migrations; the role has its old password afterwards."""
    runtime, migrate = tmp_path / "runtime", tmp_path / "migrate"
    for folder in (runtime, migrate):
        folder.mkdir()
    address = settings.postgres_url.get_secret_value()
    (runtime / "portal_postgres_url").write_text(address)
    (migrate / "portal_postgres_url").write_text(database_url)
    (migrate / "portal_runtime_postgres_url").write_text(address)
    yield runtime, migrate
    passwords.give(database_url, passwords.as_role(database_url, "app_user", RUNTIME_PASSWORD))


@pytest.fixture
def running(settings, folders):
    """Settings that were read from files, as a process has them."""
    return settings.model_copy().provided_by(Chain((Files(folders[0]),)))


@pytest.fixture
def rotate(folders, monkeypatch, capsys):
    """Run the command as an operator does; returns its output."""
    runtime, migrate = folders

    def run(*more):
        words = ("rotate-passwords", "--write", str(runtime / "portal_postgres_url"), *more)
        monkeypatch.setattr("sys.argv", ["bus", *words])
        monkeypatch.setenv("PORTAL_SECRETS", str(migrate))
        assert main() == 0
        said = capsys.readouterr()
        return said.out + said.err

    return run


async def test_no_request_is_lost_while_the_password_changes(running, rotate, folders):
    database = Database(running.model_copy(update={"pool_size": 4}), Clock())
    await database.open()
    answered, stop = [], asyncio.Event()

    async def ask():
        while not stop.is_set():
            connection = await database.connect()  # a new one each time: the hard case
            await connection.close()
            answered.append((await database.row(ONE))["one"])

    async with asyncio.TaskGroup() as asking:
        for _ in range(3):
            asking.create_task(ask())
        for _ in range(3):
            before = len(answered)
            await asyncio.to_thread(rotate)
            await eventually(partial(longer, answered, before + 5))
        stop.set()
    await database.close()
    assert set(answered) == {1}
    address = (folders[0] / "portal_postgres_url").read_text()
    assert passwords.password_of(address) != RUNTIME_PASSWORD


async def longer(answered, count):
    return len(answered) > count


async def test_a_connection_that_is_open_outlives_its_password(running, rotate):
    database = Database(running, Clock())
    await database.open()
    pid = (await database.row(PID))["pid"]
    await asyncio.to_thread(rotate)
    assert (await database.row(PID))["pid"] == pid
    await database.close()


async def test_the_old_password_is_good_for_nothing_and_is_shown_nowhere(
    settings, rotate, folders, monkeypatch
):
    said = await asyncio.to_thread(rotate)
    fresh = passwords.password_of((folders[0] / "portal_postgres_url").read_text())
    assert fresh not in said
    monkeypatch.setattr("bus.database.CONNECT_TIMEOUT_S", 0.5)
    with pytest.raises(DependencyDown, match="refuses our password"):
        await Database(settings, Clock()).open()


async def test_the_server_never_sees_the_password_itself(rotate, folders, database_url):
    await asyncio.to_thread(rotate)
    fresh = passwords.password_of((folders[0] / "portal_postgres_url").read_text())
    with psycopg.connect(database_url) as connection:
        seen = [row[0] for row in connection.execute("SELECT query FROM pg_stat_statements")]
    assert any("ALTER ROLE" in query for query in seen)
    assert not any(fresh in query for query in seen)


async def test_a_crash_between_the_steps_is_mended_by_the_next_migration(
    running, folders, database_url, monkeypatch
):
    fresh = passwords.as_role(database_url, "app_user", "written-but-not-given")
    (folders[1] / "portal_runtime_postgres_url").write_text(fresh)
    monkeypatch.setattr("sys.argv", ["bus", "migrate"])
    monkeypatch.setenv("PORTAL_SECRETS", str(folders[1]))
    assert await asyncio.to_thread(main) == 0
    (folders[0] / "portal_postgres_url").write_text(fresh)
    database = Database(running, Clock())
    await database.open()
    assert (await database.row(ONE))["one"] == 1
    await database.close()


async def test_a_reader_gets_an_address_of_its_own(rotate, folders, settings):
    await asyncio.to_thread(rotate, "--role", "readonly_user")
    address = (folders[0] / "portal_postgres_url").read_text()
    with psycopg.connect(address) as connection:
        assert connection.execute("SELECT session_user::text").fetchone() == ("readonly_user",)
    psycopg.connect(settings.postgres_url.get_secret_value()).close()


@pytest.fixture
def given_last_year(database_url):
    """The role belongs to the server that other tests share: they find its own note again."""
    last_year = datetime.now(UTC) - timedelta(days=365)
    note = passwords.GIVEN + last_year.isoformat(timespec="seconds")
    ask = "SELECT shobj_description(to_regrole('app_user'), 'pg_authid')"
    with psycopg.connect(database_url, autocommit=True) as connection:
        (own,) = connection.execute(ask).fetchone()
        connection.execute(f"COMMENT ON ROLE app_user IS '{note}'")
        yield
        connection.execute(f"COMMENT ON ROLE app_user IS '{own}'")


async def test_the_age_of_a_password_is_in_the_metrics(platform, given_last_year):
    await passwords.look_at_ages(platform)
    shown = REGISTRY.get_sample_value("portal_database_password_age_seconds", {"role": "app_user"})
    assert shown > 364 * 86_400


def test_the_doctor_says_which_password_is_due():
    def note(days):
        return passwords.GIVEN + (datetime.now(UTC) - timedelta(days=days)).isoformat()

    fine = doctor.ages({"app_user": note(89), "readonly_user": None})
    due = doctor.ages({"app_user": note(91), "readonly_user": note(1)})
    assert (fine.ok, due.ok) == (True, False)
    assert "['app_user']" in due.text


@pytest.mark.parametrize("note", [None, "", "something else"])
def test_a_comment_that_is_not_ours_tells_no_age(note):
    assert passwords.given_at(note) is None
