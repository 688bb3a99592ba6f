"""What `portal up`, `down`, `restart`, `status` and `logs` do; each returns its exit status.

Results go to standard output, progress and refusals to standard error.
"""

import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from deploy.embedded import folder as data
from deploy.embedded import lock, orphans, restarting
from deploy.embedded import logs as log_files
from deploy.embedded.ports import SERVICES
from deploy.embedded.progress import for_people
from deploy.embedded.refusal import EXIT_FAILED, Refused

DOWN_S_MAX = 180.0
STEP_S = 0.05


def up(
    *, only: str | None = None, external: Sequence[str] = (), handlers: int = 1,
    as_json: bool = False, tls: bool = False,
) -> int:  # fmt: skip
    """Run everything in the foreground until a signal; 2 refused, 3 already running, 1 failed."""
    from deploy.embedded import certificates, servers  # a second that the others need not wait
    from deploy.embedded.installation import Installation, chosen_platform

    async def run() -> int:
        platform = chosen_platform(only, handlers)
        outside = servers.external(external)
        progress = for_people(as_json=as_json)
        installation = Installation(
            data.chosen(), progress, external=outside, platform=platform,
            tls=certificates.wanted(asked=tls),
        )  # fmt: skip
        return await installation.run()

    try:
        return asyncio.run(run())
    except Refused as refused:
        return say_refused(refused, as_json=as_json)


def down() -> int:
    """Stop the running installation, or what a crashed one left; 0 also when nothing runs."""
    folder = data.chosen()
    held_by = lock.holder(folder.lock)
    if held_by is None:
        return clean_up(folder)
    _, supervisor = held_by
    supervisor.send(signal.SIGTERM)
    until = time.monotonic() + DOWN_S_MAX
    while supervisor.alive():
        if time.monotonic() > until:
            print(
                f"pid {supervisor.pid} is still stopping after {DOWN_S_MAX:.0f} s", file=sys.stderr
            )
            return EXIT_FAILED
        time.sleep(STEP_S)
    print("Stopped.", file=sys.stderr)
    return 0


def clean_up(folder: data.DataFolder) -> int:
    """End what a crash left, under the lock, so that no start runs meanwhile."""
    if folder.pids.exists():
        try:
            with lock.Lock(folder.lock):
                asyncio.run(orphans.end_all(folder.pids))
                folder.forget_run()
        except Refused as refused:
            return say_refused(refused, as_json=False)
    print("Nothing runs.", file=sys.stderr)
    return 0


def restart(names: Sequence[str], *, as_json: bool) -> int:
    """Restart processes one at a time; 2 for an unknown name, 1 if one does not come back."""
    folder, progress = data.chosen(), for_people(as_json=as_json)
    try:
        for process in restarting.chosen(current_state(folder)["processes"], names):
            progress.note(process["name"], "restarting", process["address"])
            took_s = restarting.restart(process, lambda: current_state(folder)["processes"])
            progress.note(process["name"], "ready", process["address"], took_s)
    except Refused as refused:
        progress.settle()
        return say_refused(refused, as_json=as_json)
    progress.settle()
    return 0


def status(as_json: bool) -> int:  # noqa: FBT001 - one caller, by name
    """Show processes and addresses; 0 if all is ready, 1 if not."""
    state = current_state(data.chosen())
    if as_json:
        print(json.dumps(state))
    else:
        show(state)
    return 0 if state["ready"] else EXIT_FAILED


def current_state(folder: data.DataFolder) -> dict[str, Any]:
    """What the supervisor last wrote; an empty state if none runs."""
    if lock.is_held(folder.lock):
        # Without a state it has just started, or is just ending.
        with contextlib.suppress(OSError, ValueError):
            state: dict[str, Any] = json.loads(folder.state.read_text())
            return state
    return {
        "pid": None,
        "ready": False,
        "processes": [],
        "addresses": dict.fromkeys(("edge", *SERVICES)),
        "admin_key_file": folder.made_admin_key,
        "certificates": None,
        "data": str(folder.root),
    }


def show(state: dict[str, Any]) -> None:
    """The state as a table."""
    console = Console()
    table = Table("process", "state", "healthy", "pid", "restarts", "address", box=None)
    for one in state["processes"]:
        healthy = "[green]yes" if one["healthy"] else "[red]no"
        table.add_row(
            one["name"], one["state"], healthy, str(one["pid"] or "-"),
            str(one["restarts"]), one["address"],
        )  # fmt: skip
    if state["processes"]:
        console.print(table)
    else:
        console.print("Nothing runs.")
    for name in ("data", "admin_key_file"):
        console.print(
            f"{name.replace('_', ' ')}: {state[name] or '-'}", highlight=False, soft_wrap=True
        )


def logs(
    names: Sequence[str], follow: bool, lines: int, as_json: bool  # noqa: FBT001 - as above
) -> int:  # fmt: skip
    """Print the last lines of the named logs, all if none is named; 2 for an unknown name."""
    folder = data.chosen()
    known = sorted(path.stem for path in folder.logs.glob("*.log"))
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"no log of {', '.join(unknown)}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    chosen = list(names) or known
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        for name, line in log_files.read(folder.logs, chosen, lines):
            print(log_files.shown(name, line, as_json=as_json))
        for name, line in log_files.follow(folder.logs, chosen) if follow else ():
            print(log_files.shown(name, line, as_json=as_json), flush=True)
    return 0


def say_refused(refused: Refused, *, as_json: bool) -> int:
    """Print why, with its code."""
    if as_json:
        print(json.dumps({"event": "refused", "code": refused.code, "text": refused.text}))
    print(f"error {refused.code}: {refused.text}", file=sys.stderr)
    return refused.status
