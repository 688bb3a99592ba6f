"""What stands in the repository works on every machine: no addresses of ours, pinned, hashed."""

import re
from pathlib import Path

import pytest

from tests.tidy import project

# Put together here, because this file is looked through as well.
REGISTRIES = tuple(
    ".".join(parts)
    for parts in (
        ("pypi", "org"), ("files", "pythonhosted", "org"), ("registry", "npmjs", "org"),
        ("proxy", "golang", "org"), ("registry", "yarnpkg", "com"),
    )
)  # fmt: skip
MACHINE_PATH = re.compile(r"(?<![\w.:/}-])/(?:home|root|work|Users|mnt)/[\w.-]+")
LOCKS = [file for file in project.files() if file.suffix == ".lock"]


def own_files() -> list[Path]:
    return [f for f in project.files() if not str(f).startswith(project.VENDORED)]


def test_no_file_names_a_package_registry():
    found = [f"{f}: {host}" for f in own_files() for host in REGISTRIES if host in project.read(f)]

    assert found == []


def test_no_file_names_a_path_of_one_machine():
    found = [f"{f}: {m[0]}" for f in own_files() for m in MACHINE_PATH.finditer(project.read(f))]

    assert found == []


@pytest.mark.parametrize("lock", LOCKS, ids=str)
def test_a_lock_pins_and_hashes_everything_and_holds_no_address(lock):
    text = re.sub(r"^\s*#.*$", "", project.read(lock), flags=re.MULTILINE)
    entries = [e for e in re.sub(r"\\\n", " ", text).splitlines() if e.strip()]

    assert entries
    assert [e for e in entries if not re.match(r"[\w.\[\],-]+==\S+", e)] == []
    assert [e for e in entries if "--hash=sha256:" not in e] == []
    assert "://" not in text


def test_every_dependency_is_in_the_lock():
    wanted = re.findall(
        r'^  "([A-Za-z0-9_.-]+)', project.read(Path("pyproject.toml")), re.MULTILINE
    )
    locked = project.read(Path("requirements-dev.lock")) + project.read(
        Path("requirements-models.lock")
    )
    there = {
        name.lower() for name in re.findall(r"^([\w.-]+)(?:\[[\w,]+\])?==", locked, re.MULTILINE)
    }
    pinned = [
        n
        for n in wanted
        if re.search(rf'"{re.escape(n)}(\[\w+\])?[=<>~]', project.read(Path("pyproject.toml")))
    ]

    assert [name for name in pinned if name.lower() not in there] == []
