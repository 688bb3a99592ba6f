"""Exit statuses: part of the interface for scripts, so they never change.

`portal up`, `down`, `status` and `logs` keep those of `deploy.embedded`, which agree.
"""

OK = 0
PROBLEM = 1
"""A problem was answered, a goal failed, or a proof did not hold."""
USAGE = 2
NOT_RUNNING = 3
CANCELLED = 4
"""The goal that was watched was cancelled."""
STILL_RUNNING = 5
"""`--timeout` passed before the goal ended; nothing was cancelled."""
INTERRUPTED = 130
