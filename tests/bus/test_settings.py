"""Settings: where each comes from, and that whatever is wrong is named at once."""

import subprocess
import sys

import pytest

from bus import settings as reading
from bus.settings import load

SECRET = "postgresql://portal:from-%s@127.0.0.1:1/portal"  # pragma: allowlist secret


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """Only these variables of ours are set."""
    for name in list(reading.os.environ):
        if name.upper().startswith("PORTAL_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PORTAL_SECRETS", str(tmp_path))

    def put(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


@pytest.fixture
def refused(capsys):
    """The lines with which `load` refuses."""

    def lines():
        with pytest.raises(SystemExit) as end:
            load()
        assert end.value.code == reading.EXIT_BAD_SETTINGS
        return capsys.readouterr().err.splitlines()

    return lines


def test_nothing_needs_to_be_set(environment):
    assert load().environment == "production"


def test_every_bad_key_is_named_at_once(environment, refused):
    environment(
        PORTAL_POOL_SIZE="many",
        PORTAL_LOG_LEVEL="loud",
        PORTAL_POOLSIZE="3",
        PORTAL_VAULT_PATH="no-mount",
        PORTAL_NATS_URL="nats://a:b@c",
    )
    lines = refused()
    named = {line.split()[2].rstrip(":") for line in lines}
    assert named == {
        "PORTAL_POOL_SIZE", "PORTAL_LOG_LEVEL", "PORTAL_POOLSIZE", "PORTAL_VAULT_PATH",
        "PORTAL_NATS_URL",
    }  # fmt: skip
    assert all(line.startswith("bad setting PORTAL_") for line in lines)


def test_a_name_that_is_no_setting_is_refused_with_those_it_may_mean(environment, refused):
    environment(PORTAL_POSTGRES_ULR="x")
    [line] = refused()
    assert "PORTAL_POSTGRES_ULR" in line
    assert "do you mean PORTAL_POSTGRES_URL" in line


def test_a_bad_environment_is_refused_like_any_other(environment, refused):
    environment(PORTAL_ENVIRONMENT="staging", PORTAL_NATS_URL="nats://a:b@c")
    assert [line.split()[2] for line in refused()] == ["PORTAL_ENVIRONMENT:"]


def test_what_the_command_line_reads_is_no_mistake(environment):
    environment(PORTAL_URL="http://127.0.0.1:1", PORTAL_API_KEY="sp_x")  # pragma: allowlist secret
    load()


def test_a_secret_in_the_environment_is_refused_in_production(environment, refused):
    environment(PORTAL_POSTGRES_URL=SECRET % "environment")
    [line] = refused()
    assert "portal_postgres_url below PORTAL_SECRETS" in line
    assert "from-environment" not in line


def test_a_secret_in_the_environment_is_read_in_development(environment):
    environment(PORTAL_POSTGRES_URL=SECRET % "environment", PORTAL_ENVIRONMENT="development")
    assert load().postgres_url.get_secret_value() == SECRET % "environment"


@pytest.mark.parametrize("mounted", [("files",), ("credentials",), ("files", "credentials")])
def test_a_file_comes_before_the_environment_and_the_own_folder_before_systemd(
    environment, tmp_path, mounted
):
    environment(PORTAL_POSTGRES_URL=SECRET % "environment", PORTAL_ENVIRONMENT="development")
    for name in mounted:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "portal_postgres_url").write_text(SECRET % name + "\n")
        variable = {"files": "PORTAL_SECRETS", "credentials": "CREDENTIALS_DIRECTORY"}[name]
        environment(**{variable: str(folder)})
    assert load().postgres_url.get_secret_value() == SECRET % mounted[0]


def test_a_setting_in_the_environment_comes_before_one_in_a_file(environment, tmp_path):
    (tmp_path / "portal_pool_size").write_text("3")
    (tmp_path / "portal_chat_model").write_text("from-a-file")
    environment(PORTAL_POOL_SIZE="4")
    settings = load()
    assert (settings.pool_size, settings.chat_model) == (4, "from-a-file")


@pytest.mark.filterwarnings("error")
def test_a_file_may_be_a_link_to_one_that_is_replaced_elsewhere(environment, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    for name, text in (("portal_postgres_url", SECRET % "link"), ("portal_log_level", "error")):
        (tmp_path / name).write_text(text)
        (own / name).symlink_to(tmp_path / name)
    environment(PORTAL_SECRETS=str(own))

    settings = load()

    assert settings.postgres_url.get_secret_value() == SECRET % "link"
    assert settings.log_level == "error"


def test_secrets_are_stars_wherever_settings_are_shown(environment, tmp_path):
    (tmp_path / "portal_postgres_url").write_text(SECRET % "file")
    settings = load()
    assert (
        "from-file" not in repr(settings) + str(settings.model_dump()) + settings.model_dump_json()
    )


def test_a_secret_is_read_again_and_each_read_is_told(environment, tmp_path):
    file = tmp_path / "portal_postgres_url"
    file.write_text(SECRET % "first")
    settings, told = load(), []
    settings.tell_reads(told.append)
    file.write_text(SECRET % "second")
    assert settings.again("postgres_url") == SECRET % "second"
    assert settings.again("redis_url") == "redis://127.0.0.1:6379"
    assert [(read.name, read.provider) for read in told] == [("postgres_url", "files")] * 2
    assert "first" not in repr(told)


def test_a_secret_file_that_cannot_be_read_is_not_passed_over(environment, tmp_path, capsys):
    (tmp_path / "portal_nats_url").mkdir()
    with pytest.raises(SystemExit) as end:
        load()
    assert end.value.code == reading.EXIT_UNAVAILABLE
    assert "portal_nats_url" in capsys.readouterr().err


@pytest.mark.parametrize("program", ["edge", "handlers", "bus"])
def test_every_process_refuses_to_start_with_a_typing_error(program, tmp_path):
    words = ["config"] if program == "bus" else []
    done = subprocess.run(
        [sys.executable, "-m", program, *words],
        env={"PORTAL_NATS_ULR": "x", "PATH": ""}, capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (reading.EXIT_BAD_SETTINGS, "")
    assert done.stderr == (
        "bad setting PORTAL_NATS_ULR: there is no such setting; do you mean PORTAL_NATS_URL?\n"
    )
