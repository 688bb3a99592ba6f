"""The command `portal`: the platform from a terminal, over the same HTTP as everybody else.

Commands of the form `portal <domain> <verb>` are derived from the catalogue; the few with a
behaviour of their own stand in `own.py`. Nothing heavy is imported before it is needed, so that
help and shell completion are quick.
"""

from collections.abc import Sequence


def main(words: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status (see `edge.cli.exits`)."""
    from edge.cli.program import run

    return run(words)
