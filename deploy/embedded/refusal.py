"""Why a start is refused: a stable code, one sentence with the cure, an exit status.

Codes `ERR_70x` belong to starting this installation and never travel on the bus:

    700 already running           703 data of another Postgres version    706 bad argument
    701 data folder not usable    704 a server cannot run here
    702 no disk space             705 a process did not start
"""

EXIT_FAILED = 1
EXIT_REFUSED = 2
EXIT_ALREADY_RUNNING = 3


class Refused(Exception):
    """This start is refused, or failed."""

    def __init__(self, code: str, text: str, status: int = EXIT_REFUSED) -> None:
        self.code, self.text, self.status = code, text, status
        super().__init__(f"{code}: {text}")


def already_running(where: str, pid: int) -> Refused:
    """Another supervisor holds this data folder."""
    return Refused("ERR_700", f"already running at {where} (pid {pid})", EXIT_ALREADY_RUNNING)


def unusable_folder(path: object, reason: object) -> Refused:
    """The data folder cannot be made or written."""
    return Refused("ERR_701", f"the data folder {path} cannot be used: {reason}")


def no_space(path: object, free_mb: int, needed_mb: int) -> Refused:
    """The disk of the data folder is full, or nearly."""
    return Refused(
        "ERR_702",
        f"no disk space for {path}: {free_mb} MB free, {needed_mb} MB needed; "
        "free some, or choose another folder with PORTAL_DATA",
    )


def other_version(path: object, found: str, wanted: int) -> Refused:
    """The Postgres data was written by another major version."""
    return Refused(
        "ERR_703",
        f"{path} holds data of Postgres {found}, this is Postgres {wanted}; dump it with the "
        "old version and restore it here, or choose another folder with PORTAL_DATA",
    )


def cannot_run(server: str, reason: object) -> Refused:
    """A server's program is missing or does not run on this machine."""
    return Refused("ERR_704", f"{server} cannot run here: {reason}")


def not_started(name: str, reason: object, log: object) -> Refused:
    """A process did not become ready."""
    return Refused("ERR_705", f"{name} did not start: {reason} (log: {log})", EXIT_FAILED)


def not_back(name: str, seconds: float) -> Refused:
    """A process that was restarted is not healthy again."""
    text = f"{name} is not healthy {seconds:.0f} s after its restart; see `portal logs {name}`"
    return Refused("ERR_705", text, EXIT_FAILED)


def bad_argument(text: str) -> Refused:
    """The command line says something that cannot be done."""
    return Refused("ERR_706", text)
