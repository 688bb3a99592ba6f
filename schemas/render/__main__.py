"""`python -m schemas.render`: write the rendered documents, or with `--check` tell which are stale.

The composition root of rendering, and so the one place here that knows the settings.
"""

import argparse
import json
import sys
from pathlib import Path

from bus.settings import Settings
from schemas.contract import Json
from schemas.render import asyncapi, openapi, reference

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path("docs/generated")


def documents() -> dict[Path, str]:
    """Every document by its place below the project."""
    return {
        FOLDER / "openapi.json": as_text(openapi.render()),
        FOLDER / "openapi-3.0.json": as_text(openapi.render_3_0()),
        FOLDER / "asyncapi.json": as_text(asyncapi.render()),
        FOLDER / "bus.md": reference.bus(),
        FOLDER / "permissions.md": reference.permission_matrix(),
        FOLDER / "problems.md": reference.problem_list(),
        FOLDER / "settings.md": reference.settings_page(Settings),
        Path(".env.example"): reference.env_example(Settings),
    }


def as_text(document: Json) -> str:
    """JSON that is pleasant to compare."""
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def stale(root: Path) -> list[Path]:
    """The documents that are missing or not what would be written."""
    return [
        place
        for place, text in documents().items()
        if not (root / place).exists() or (root / place).read_text(encoding="utf-8") != text
    ]


def main() -> None:
    """Write or check."""
    parser = argparse.ArgumentParser(prog="python -m schemas.render", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if any is stale")
    arguments = parser.parse_args()
    changed = stale(ROOT)
    for place in changed:
        print(f"{'stale' if arguments.check else 'written'}: {place}", file=sys.stderr)
    if arguments.check:
        raise SystemExit(1 if changed else 0)
    rendered = documents()
    for place in changed:
        (ROOT / place).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / place).write_text(rendered[place], encoding="utf-8")


if __name__ == "__main__":
    main()
