"""Asking the hand-made tables of `data/`, and any text, without a child process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handlers.tools import questions

DATA = Path(__file__).parent / "data"


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """`ask(file, question)`; with `text` the file is written first."""

    def asking(name: str, question: str, text: str | None = None) -> dict[str, Any]:
        path = tmp_path / name
        path.write_text((DATA / name).read_text() if text is None else text, newline="")
        return questions.ask({"question": question}, {name: path})

    return asking
