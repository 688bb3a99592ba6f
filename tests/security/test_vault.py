"""Secrets out of a real OpenBao: token, AppRole, new versions, and what happens without it."""

import pytest

from bus.secrets import Chain, Files, SecretsUnavailable, Vault
from bus.settings import EXIT_UNAVAILABLE, load
from tests.security import bao
from tests.security.bao import SECRET_PATH


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with bao.running(tmp_path_factory.mktemp("bao")) as started:
        yield started


def by_token(server, **how):
    return Vault(server.url, SECRET_PATH, token_file=server.token_file(**how))


def test_each_field_is_a_secret_and_the_newest_version_counts(server):
    vault = by_token(server)
    server.put(nats_url="nats://one", redis_url="redis://one")
    assert (vault.get("nats_url"), vault.get("redis_url")) == ("nats://one", "redis://one")
    server.put(nats_url="nats://two")
    assert (vault.get("nats_url"), vault.get("redis_url")) == ("nats://two", None)


def test_an_app_role_logs_in_anew_when_its_token_is_spent(server):
    server.put(nats_url="nats://by-role")
    vault = Vault(server.url, SECRET_PATH, role_file=server.role_file())
    assert [vault.get("nats_url") for _ in range(3)] == ["nats://by-role"] * 3


def test_a_token_that_has_ended_is_read_from_its_file_again(server):
    server.put(nats_url="nats://renewed")
    file = server.token_file()
    vault = Vault(server.url, SECRET_PATH, token_file=file)
    assert vault.get("nats_url") == "nats://renewed"
    server.revoke(file)
    file.write_text(server.token_file().read_text())
    assert vault.get("nats_url") == "nats://renewed"


def test_a_secret_that_is_not_there_is_left_to_the_next_provider(server, tmp_path):
    server.put(nats_url="nats://vault")
    (tmp_path / "portal_redis_url").write_text("redis://file")
    told = []
    chain = Chain((by_token(server), Files(tmp_path)))
    chain.tell(told.append)
    assert [chain.read(n) for n in ("nats_url", "redis_url", "postgres_url")] == [
        "nats://vault", "redis://file", None,
    ]  # fmt: skip
    assert [(read.name, read.provider) for read in told] == [
        ("nats_url", "vault"), ("redis_url", "files"),
    ]  # fmt: skip


def test_a_secret_that_was_never_written_is_not_there(server):
    server.ask("PUT", "sys/policies/acl/portal", {"policy": bao.POLICY})
    server.put(nats_url="nats://gone")
    vault = by_token(server)
    server.ask("DELETE", "secret/metadata/story-portal")
    assert vault.get("nats_url") is None


@pytest.mark.parametrize("path", ["secret/other", "elsewhere/story-portal"])
def test_what_the_token_may_not_read_is_not_taken_for_absent(server, path):
    vault = Vault(server.url, path, token_file=server.token_file())
    with pytest.raises(SecretsUnavailable, match="Forbidden"):
        vault.get("nats_url")


def test_a_server_that_is_away_is_not_passed_over(server, tmp_path):
    file = server.token_file()
    token = file.read_text()
    vault = Vault("http://127.0.0.1:1", SECRET_PATH, token_file=file)
    (tmp_path / "portal_nats_url").write_text("nats://file")
    with pytest.raises(SecretsUnavailable) as away:
        Chain((vault, Files(tmp_path))).read("nats_url")
    assert token not in str(away.value) + repr(vault)


def test_a_value_that_is_no_text_is_refused(server):
    server.ask("POST", "secret/data/story-portal", {"data": {"nats_url": 5}})
    with pytest.raises(SecretsUnavailable, match="not a text"):
        by_token(server).get("nats_url")


def test_settings_take_their_secrets_out_of_the_vault(server, monkeypatch, tmp_path):
    server.put(postgres_url="postgresql://a:from-vault@h/d")  # pragma: allowlist secret
    monkeypatch.setenv("PORTAL_VAULT_URL", server.url)
    monkeypatch.setenv("PORTAL_VAULT_TOKEN_FILE", str(server.token_file()))
    settings = load()
    # pragma: allowlist nextline secret
    assert settings.postgres_url.get_secret_value() == "postgresql://a:from-vault@h/d"
    server.put(postgres_url="postgresql://a:rotated@h/d")  # pragma: allowlist secret
    # pragma: allowlist nextline secret
    assert settings.again("postgres_url") == "postgresql://a:rotated@h/d"


def test_a_process_does_not_start_without_its_vault(server, monkeypatch, capsys):
    monkeypatch.setenv("PORTAL_VAULT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("PORTAL_VAULT_TOKEN_FILE", str(server.token_file()))
    with pytest.raises(SystemExit) as end:
        load()
    assert end.value.code == EXIT_UNAVAILABLE
    assert "secrets cannot be read: http://127.0.0.1:1" in capsys.readouterr().err
