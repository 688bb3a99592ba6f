"""SQL as named constants, all of them known, so that a test prepares each against the schema."""

from typing import ClassVar


class Statement:
    """SQL text with `$1` parameters. Every instance is prepared against the schema by a test."""

    __slots__ = ("text",)
    known: ClassVar[list["Statement"]] = []

    def __init__(self, text: str) -> None:
        self.text = text
        Statement.known.append(self)
