"""The walls between the packages hold, and nothing stands unused behind them."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from schemas import catalogue
from tests.tidy import project
from tests.tidy.project import ROOT

LOADED_BY_NAME = ("operations", "reactions", "travel", "__init__", "__main__")
LINT = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"


def test_the_import_contracts_hold():
    done = subprocess.run(
        [sys.executable, "-c", LINT], cwd=ROOT, capture_output=True, text=True, check=False,
        timeout=120,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_contract_of_independence_names_every_domain():
    contracts = tomllib.loads(project.read(Path("pyproject.toml")))["tool"]["importlinter"]
    [independent] = [c for c in contracts["contracts"] if c["type"] == "independence"]

    assert sorted(independent["modules"]) == sorted(f"handlers.{d}" for d in catalogue.DOMAINS)


def test_rules_import_only_contracts_and_the_standard_library():
    allowed = {"schemas", *sys.stdlib_module_names}
    for file in project.named(".py"):
        if "rules" in (file.stem, file.parent.name) and file.parts[0] == "handlers":
            own = f"handlers.{file.parts[1]}"
            wrong = [
                name
                for name in imports(file)
                if name.split(".")[0] not in allowed and not name.startswith(own)
            ]
            assert wrong == [], file


def test_only_programs_read_the_environment():
    domains = [f for f in project.named(".py") if f.parts[0] in ("schemas", "handlers", "bus")]
    readers = {str(f) for f in domains if re.search(r"os\.(environ|getenv)", project.read(f))}

    assert readers <= {"bus/settings.py"}


def test_every_module_is_used():
    sources = {file: project.read(file) for file in project.named(".py")}
    used = {name for file in sources for name in imports(file)}
    words = {
        w for text in sources.values() for w in re.findall(r"[\"']([a-z_.]+)(?::\w+)?[\"']", text)
    }
    unused = [
        str(file)
        for file in sources
        if file.parts[0] in project.SHIPPED
        and not {file.stem, file.parent.name} & set(LOADED_BY_NAME)
        and dotted(file) not in used | words
        and not run_by_path(file, sources)
    ]
    assert unused == []


def run_by_path(file: Path, sources: dict[Path, str]) -> bool:
    """Whether another source names the file itself, as one starts a program."""
    return any(f'"{file.name}"' in text for other, text in sources.items() if other != file)


def imports(file: Path) -> set[str]:
    """Every module that a file imports, and every name it imports from one, dotted."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(project.read(file))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def dotted(file: Path) -> str:
    """`bus/work.py` -> `bus.work`."""
    return ".".join(file.with_suffix("").parts)
