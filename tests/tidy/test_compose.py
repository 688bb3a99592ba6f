"""The compose file and the image, read and checked without an engine."""

import re
from pathlib import Path

import pytest
import yaml

from bus import certificate_folder, certificates
from deploy.images import prepare
from tests.tidy import mentions, project

COMPOSE = yaml.safe_load(project.read(Path("compose.yaml")))
SERVICES = COMPOSE["services"]
ONCE = {"prepare", "migrate", "pull"}
LONG = sorted(set(SERVICES) - ONCE)
PLATFORM = {"prepare", "migrate", "handlers", "edge"}
DOCKERFILE = project.read(Path("deploy/images/Dockerfile"))


def test_every_layer_and_every_server_is_there():
    assert set(LONG) == {"nats", "postgres", "valkey", "ollama", "handlers", "edge"}
    assert SERVICES["postgres"]["image"] == "pgvector/pgvector:pg18"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_limited_and_kept_in_bounds(name):
    service = SERVICES[name]
    _, _, tag = service["image"].partition(":")

    assert re.search(r"\d", tag)
    assert "latest" not in tag
    assert {"cpus", "memory"} <= set(service["deploy"]["resources"]["limits"])
    assert service["logging"]["options"]["max-size"]
    assert service.get("privileged") is None


@pytest.mark.parametrize("name", LONG)
def test_a_server_says_when_it_is_well_and_comes_back(name):
    service = SERVICES[name]

    assert service["restart"] == "unless-stopped"
    assert "healthcheck" in service or name in PLATFORM
    assert "HEALTHCHECK" in DOCKERFILE


@pytest.mark.parametrize("name", sorted(PLATFORM))
def test_the_platform_runs_as_nobody_special(name):
    service = SERVICES[name]

    assert service["user"] == "10001:10001"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]


def test_everything_that_is_waited_for_can_come_to_the_state_that_is_waited_for():
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            ends = how["condition"] == "service_completed_successfully"
            assert ends == (other in ONCE), (name, other)


def test_only_the_edge_is_published_and_only_on_loopback():
    published = {name: s["ports"] for name, s in SERVICES.items() if "ports" in s}

    assert published == {"edge": ["127.0.0.1:8009:8009"]}
    assert COMPOSE["networks"]["inside"] == {"internal": True}


def test_no_secret_stands_in_the_file_and_volumes_are_declared():
    for name, service in SERVICES.items():
        for variable in service.get("environment", {}):
            assert not re.search(
                r"PASSWORD$|SECRET|KEY$|_URL$(?<!OLLAMA_URL)(?<!PUBLIC_URL)", variable
            ), name
        for volume in service.get("volumes", ()):
            assert volume.split(":")[0] in COMPOSE["volumes"], name
            if "/run/portal" in volume and name != "prepare":
                assert volume.endswith(":ro"), name


def test_settings_and_modules_that_are_named_exist():
    text = project.read(Path("compose.yaml")) + DOCKERFILE
    modules = {
        s["command"][2] for n, s in SERVICES.items() if n in PLATFORM and s["command"][1] == "-m"
    }

    assert set(mentions.SETTING.findall(text)) <= mentions.settings()
    assert [m for m in modules if not mentions.module_exists(m)] == []


def test_the_image_is_built_in_two_stages_from_what_is_there_and_ends_as_a_user():
    stages = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    copied = [
        name
        for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
        for name in line.split()
    ]

    assert len(stages) == 2
    assert all(re.fullmatch(r"python:3\.\d+-slim-\w+", stage) for stage in stages)
    assert [name for name in copied if not (project.ROOT / name).exists()] == []
    assert {f"!{name}" for name in copied} <= set(project.read(Path(".dockerignore")).split())
    assert "USER 10001:10001" in DOCKERFILE
    assert "--require-hashes" in DOCKERFILE


def read_all(folder):
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


def test_the_secrets_are_made_once_and_readable_by_their_owner_only(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PORTAL_SECRETS", str(tmp_path))
    of_migrations = tmp_path / "migrate"
    prepare.main(of_migrations)
    first = read_all(tmp_path)
    shown = capsys.readouterr().out
    prepare.main(of_migrations)

    assert read_all(tmp_path) == first
    assert {file.stat().st_mode & 0o077 for file in tmp_path.rglob("*") if file.is_file()} == {0}
    owner = first["migrate/postgres.password"]
    assert not any(owner in text for name, text in first.items() if "migrate" not in name)
    assert first["migrate/portal_runtime_postgres_url"] == first["portal_postgres_url"]
    assert first["admin.key"].decode() in shown
    assert capsys.readouterr().out == ""
    assert {"portal_nats_url", "portal_postgres_url", "portal_redis_url"} <= set(first)
    for mine, others in (("edge", "handlers"), ("handlers", "edge")):
        assert f"{mine}/{mine}.key" in first
        assert f"{mine}/{others}.key" not in first
        assert first[f"{mine}/portal_nats_seed"] != first[f"{others}/portal_nats_seed"]
    assert "edge/portal_postgres_url" not in first
    assert b"nkey: $NKEY_EDGE" in first["nats.conf"]


def test_edge_and_layers_read_their_own_folders():
    for name in ("edge", "handlers"):
        assert f"PORTAL_SECRETS=/run/portal/{name}" in SERVICES[name]["command"]


def test_every_server_shows_a_certificate_with_its_own_name_and_no_other_service(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("PORTAL_SECRETS", str(tmp_path))
    prepare.main(tmp_path / "migrate")
    for role in prepare.NAMED:
        [leaf] = certificate_folder.load(tmp_path / "certificates" / f"{role}.pem")
        hosts = set(certificates.hosts_of(leaf))
        assert hosts - set(certificates.LOCAL_HOSTS) == {role}


def test_every_port_speaks_tls(tmp_path, monkeypatch):
    monkeypatch.setenv("PORTAL_SECRETS", str(tmp_path))
    prepare.main(tmp_path / "migrate")
    prepared = read_all(tmp_path)
    environment = SERVICES["edge"]["environment"]
    written = prepare.texts(dict.fromkeys(prepare.SERVERS, "x"))
    postgres = SERVICES["postgres"]["command"]

    assert environment["PORTAL_TLS"] == "on"
    assert environment["PORTAL_CERTIFICATES"] == str(prepare.CERTIFICATES)
    assert "-cssl=on" in postgres
    assert "\nhost " not in written["pg_hba.conf"]
    assert "\nport 0\n" in written["valkey.conf"]
    assert "verify: true" in prepared["nats.conf"].decode()
    assert "\nhttp: " not in prepared["nats.conf"].decode()
    assert written["portal_nats_url"].startswith("tls://")
    assert written["portal_redis_url"].startswith("rediss://")


def test_a_setting_that_prepare_writes_is_one():
    passwords = dict.fromkeys((*prepare.SERVERS, "admin"), "x")
    written = {*prepare.texts(passwords), *prepare.texts_of_migrations(passwords)}
    named = {name.upper() for name in written if name.startswith("portal_")}

    assert named <= mentions.settings()
