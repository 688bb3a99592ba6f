"""Named points where a test may kill the process, so that a crash is exact and not lucky.

`PORTAL_FAULT=after-commit-before-reply` kills the process the first time it gets there. Without
the setting a point costs one comparison.
"""

import os
import signal

POINTS = (
    "before-commit",
    "after-commit-before-reply",
    "after-publish-before-delete",
    "after-replay-before-position",
    "after-effect-before-ack",
    "before-letter",
    "after-letter-before-end",
    "after-model-before-checkpoint",
    "after-tool-before-checkpoint",
    "tool-claimed",
    "tool-ran",
)
POINTS_OF_EDGE = ("before-asking", "after-answer-before-response")
_armed: set[str] = set()


def arm(point: str | None) -> None:
    """Choose the point at which this process dies.

    Raises:
        ValueError: There is no such point.
    """
    known = (*POINTS, *POINTS_OF_EDGE)
    if point is not None and point not in known:
        raise ValueError(f"no fault point {point!r}; there are {', '.join(known)}")
    _armed.clear()
    if point is not None:
        _armed.add(point)


def point(name: str) -> None:
    """Die here, as if by `kill -9`, if this point is armed."""
    if name in _armed:
        os.kill(os.getpid(), signal.SIGKILL)
