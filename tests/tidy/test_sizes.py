"""Functions fit on a screen, files can be read, and names say what is inside."""

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

from tests.tidy import project

FUNCTION_LINES_MAX = 60
FILE_LINES_MAX = 400
MEDIAN_MAX, P90_MAX = 8, 30
BANNED = {
    "utils": "name what it does", "util": "name what it does", "common": "name what it shares",
    "helpers": "name what it does", "helper": "name what it does", "misc": "sort it in",
    "manager": "name the thing, not its keeper", "managers": "name the things",
}  # fmt: skip


def functions(file: Path) -> Iterator[tuple[str, int]]:
    """Name and lines of each function, its docstring and decorators left out."""
    for node in ast.walk(ast.parse(project.read(file))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            documented = node.body[0] if ast.get_docstring(node, clean=False) else None
            if documented is not None:
                lines -= (documented.end_lineno or 0) - documented.lineno + 1
            yield f"{file}:{node.lineno} {node.name}", lines


def test_no_function_is_longer_than_a_screen():
    lengths = [found for file in project.named(".py") for found in functions(file)]

    assert [found for found in lengths if found[1] > FUNCTION_LINES_MAX] == []


def test_most_functions_are_short():
    shipped = [file for file in project.named(".py") if file.parts[0] in project.SHIPPED]
    lengths = sorted(lines for file in shipped for _, lines in functions(file))

    assert statistics.median(lengths) <= MEDIAN_MAX
    assert lengths[len(lengths) * 9 // 10] <= P90_MAX


def test_no_file_is_too_long_to_read():
    sources = project.named(".py", ".js", ".mjs", ".ts", ".tsx", ".css", ".sh")
    lengths = {str(file): len(project.read(file).splitlines()) for file in sources}

    assert {file: n for file, n in lengths.items() if n > FILE_LINES_MAX} == {}


def test_no_file_folder_or_class_hides_behind_a_name_that_says_nothing():
    wrong = [
        f"{file}: {BANNED[part]}"
        for file in project.named(".py", ".js", ".mjs", ".ts", ".tsx", ".sql")
        for part in (Path(p).stem.lower() for p in file.parts)
        if part in BANNED
    ]
    wrong += [
        f"{file}: class {node.name}"
        for file in project.named(".py")
        for node in ast.walk(ast.parse(project.read(file)))
        if isinstance(node, ast.ClassDef) and node.name.endswith(("Manager", "Helper", "Util"))
    ]
    assert wrong == []


def test_every_module_says_what_it_is():
    silent = [
        str(file)
        for file in project.named(".py")
        if file.parts[0] in (*project.SHIPPED, "migrations")
        and not ast.get_docstring(ast.parse(project.read(file)))
    ]
    assert silent == []
