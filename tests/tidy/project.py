"""What the repository holds: its files, and the words of its documents. Read only."""

import re
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHIPPED = ("schemas", "bus", "handlers", "edge", "deploy")
VENDORED = ("edge/static/docs/",)
GENERATED = ("docs/generated/", "requirements", ".env.example", "package-lock.json")


@cache
def files() -> tuple[Path, ...]:
    """Every file that is, or is about to be, in the repository, relative to its root."""
    listing = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    output = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True).stdout.decode()
    return tuple(sorted({Path(n) for n in output.split("\0") if n and (ROOT / n).is_file()}))


def named(*suffixes: str) -> list[Path]:
    """Our own files with one of these suffixes: nothing vendored or generated."""
    return [
        f
        for f in files()
        if f.suffix in suffixes and not str(f).startswith((*VENDORED, *GENERATED))
    ]


def read(file: Path) -> str:
    """Its text; empty if it is not text."""
    try:
        return (ROOT / file).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def documents() -> list[Path]:
    """Every Markdown file that people write."""
    return [f for f in named(".md") if "tests" not in f.parts and "examples" not in f.parts]


FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")


def prose(text: str) -> str:
    """A document without its fenced blocks."""
    return FENCE.sub("", text)


def code(text: str) -> list[str]:
    """Every code span and every line of a fenced block; continued lines are joined."""
    blocks = "\n".join(FENCE.findall(text)).replace("\\\n", " ")
    return SPAN.findall(prose(text)) + blocks.splitlines()


def invented(text: str) -> set[str]:
    """Names that a document makes up for its example: `<!-- invented: agents.rename -->`."""
    marks = re.findall(r"<!-- invented: (.*?) -->", text)
    return {name for mark in marks for name in mark.split()}
