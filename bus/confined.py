"""Confined work: a pure function in a child process whose limits the kernel enforces.

A zip bomb, a PDF that never ends or a runaway SQL statement must cost nobody else anything, so code
that meets strangers' bytes runs here: fresh session, fresh directory, clean environment, limits on
time, memory, files and output. The parent reads one JSON answer and believes nothing else; whatever
happens (answer, time, cancellation) the whole group is killed and its directory removed. It is no
sandbox against hostile *code*: only our functions run, and the kernel does not limit root's forks.

    run() --argv: limits, files--> python -m bus.confined --> function(argument, files)
          --stdin: argument------>                        --> {"answer": ...} | {"error": ...}
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import resource
import signal
import sys
import tempfile
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:  # asyncio and pydantic would double the time that a child needs to start
    import asyncio
    from collections.abc import Callable, Mapping

    from pydantic import JsonValue

RUNNING_MAX = 4
WAITING_MAX = 64
ARGUMENT_BYTES_MAX = 8 << 20
ATTACHMENTS_MAX = 64
STDERR_BYTES_MAX = 64 << 10
FILE_BYTES_MAX = 256 << 20
OPEN_FILES_MAX = 64
MESSAGE_CHARS_MAX = 1000
READ_BYTES = 64 << 10
ORPHAN_GRACE_S = 2.0
REAP_S = 2.0

_IMPORT_ROOT = Path(__file__).resolve().parents[1]


class Confined(Exception):
    """The confined function gave no answer."""


class TimedOut(Confined):
    """It used up its wall time or its CPU time."""


class OutOfMemory(Confined):
    """It used up its memory."""


class TooMuchOutput(Confined):
    """Its answer, or what it printed, was larger than allowed."""


class Busy(Confined):
    """More than `WAITING_MAX` callers already wait for one of the `RUNNING_MAX` places."""


class Failed(Confined):
    """It raised, or died; `kind` is `invalid` (the input is at fault), `raised` or `crashed`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        self.message = message


class _Gate:
    """The places of one event loop: how many run, and how many may wait for that."""

    def __init__(self) -> None:
        import asyncio

        self._places = asyncio.Semaphore(RUNNING_MAX)
        self._waiting = 0

    async def __aenter__(self) -> None:
        if self._waiting >= WAITING_MAX:
            raise Busy(f"{WAITING_MAX} callers are waiting already")
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1

    async def __aexit__(self, *_: object) -> None:
        self._places.release()


_gates: WeakKeyDictionary[asyncio.AbstractEventLoop, _Gate] = WeakKeyDictionary()


async def run(
    target: str,
    argument: JsonValue,
    *,
    attachments: Mapping[str, bytes] | None = None,
    wall_s: float,
    cpu_s: int,
    memory_mb: int,
    output_bytes_max: int,
) -> JsonValue:
    """Call `target` ("package.module:function") in a child process and return its JSON answer.

    The function is called as `function(argument, files)`; `files` maps each attachment's name to a
    path inside the child's own directory. The clock of `wall_s` starts when the child does, not
    while the call waits for a place. `memory_mb` limits the address space, not only what is used
    (DuckDB needs 1024). Cancelling the caller kills the child.

    Raises:
        TimedOut, OutOfMemory, TooMuchOutput: a limit was reached.
        Failed: the function raised (a `ValueError` has kind `invalid`), or the child died.
        Busy: too many callers wait already.
    """
    import asyncio

    gate = _gates.setdefault(asyncio.get_running_loop(), _Gate())
    request = json.dumps(argument).encode()
    if len(request) > ARGUMENT_BYTES_MAX or len(attachments or {}) > ATTACHMENTS_MAX:
        raise Failed("invalid", f"more than {ARGUMENT_BYTES_MAX} bytes or {ATTACHMENTS_MAX} files")
    async with gate:
        with tempfile.TemporaryDirectory(prefix="confined-", ignore_cleanup_errors=True) as folder:
            files = await asyncio.to_thread(_write_files, Path(folder), attachments or {})
            limits = {"wall_s": wall_s, "cpu_s": cpu_s, "memory_mb": memory_mb, "files": files}
            output = await _supervise(target, limits, request, folder, output_bytes_max)
    return _answer(*output)


def _write_files(folder: Path, attachments: Mapping[str, bytes]) -> dict[str, str]:
    """Store under numbers: a name from outside must not choose a path or shadow a module."""
    paths = {name: folder / f"file-{i}" for i, name in enumerate(attachments)}
    for name, path in paths.items():
        path.write_bytes(attachments[name])
    return {name: str(path) for name, path in paths.items()}


async def _supervise(
    target: str, limits: dict[str, Any], request: bytes, folder: str, output_bytes_max: int
) -> tuple[bytes, bytes, int]:
    import asyncio

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "bus.confined", target, json.dumps(limits)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        cwd=folder,
        env=_environment(folder),
    )
    try:
        async with asyncio.timeout(limits["wall_s"]):
            return await _converse(process, request, output_bytes_max)
    except TimeoutError:
        raise TimedOut(f"no answer within {limits['wall_s']:g} s") from None
    finally:
        _kill_group(process)
        await asyncio.shield(_reap(process))


def _kill_group(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


async def _reap(process: asyncio.subprocess.Process) -> None:
    """Wait for the dead child; asyncio calls it ended only when its pipes were read to the end."""
    import asyncio

    if process.stdin is not None:
        process.stdin.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(REAP_S):
            for stream in (process.stdout, process.stderr):
                while stream is not None and await stream.read(READ_BYTES):
                    pass
            await process.wait()


def _environment(folder: str) -> dict[str, str]:
    """Nothing of ours but where the code is: no credential of the parent reaches the child."""
    return {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(_IMPORT_ROOT),
        "HOME": folder,
        "TMPDIR": folder,
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "OPENBLAS_NUM_THREADS": "1",
    }


async def _converse(
    process: asyncio.subprocess.Process, request: bytes, output_bytes_max: int
) -> tuple[bytes, bytes, int]:
    import asyncio

    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise Failed("crashed", "the child has no pipes")
    async with asyncio.TaskGroup() as tasks:
        kill = functools.partial(_kill_group, process)
        answer = tasks.create_task(_read_bounded(process.stdout, output_bytes_max, kill))
        printed = tasks.create_task(_read_bounded(process.stderr, STDERR_BYTES_MAX, kill))
        tasks.create_task(_send(process.stdin, request))
    if answer.result() is None or printed.result() is None:
        raise TooMuchOutput(f"more than {output_bytes_max} bytes answered or printed")
    return answer.result() or b"", printed.result() or b"", await process.wait()


async def _send(stdin: asyncio.StreamWriter, request: bytes) -> None:
    """Hand over the argument; a child that died before reading it is judged by its exit."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        stdin.write(request)
        await stdin.drain()
        stdin.close()


async def _read_bounded(
    stream: asyncio.StreamReader, bytes_max: int, kill: Callable[[], None]
) -> bytes | None:
    """All of the stream; None, and the writer is killed, when it is too long."""
    read = bytearray()
    while chunk := await stream.read(READ_BYTES):
        if len(read) <= bytes_max:
            read += chunk
        else:
            kill()
    return bytes(read) if len(read) <= bytes_max else None


def _answer(output: bytes, printed: bytes, status: int) -> JsonValue:
    if status in (-signal.SIGXCPU, -signal.SIGALRM):
        raise TimedOut("the CPU time is used up")
    try:
        reply = json.loads(output)
    except ValueError:
        said = printed.decode(errors="replace").strip()[-MESSAGE_CHARS_MAX:]
        if "memory" in said.lower() or "bad_alloc" in said:
            raise OutOfMemory("the memory is used up") from None
        raise Failed("crashed", f"status {status}: {said}") from None
    if "answer" in reply:
        return reply["answer"]  # type: ignore[no-any-return]
    kind, message = reply["error"]
    raise OutOfMemory(message) if kind == "memory" else Failed(kind, message)


def _limit_this_process(limits: dict[str, Any]) -> None:
    """Give up what the function must not have; the timer ends a child whose parent was killed."""
    memory_bytes = limits["memory_mb"] << 20
    limited = {
        resource.RLIMIT_CPU: limits["cpu_s"],
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_FSIZE: FILE_BYTES_MAX,
        resource.RLIMIT_NOFILE: OPEN_FILES_MAX,
        resource.RLIMIT_CORE: 0,
    }
    if os.getuid() != 0:
        limited[resource.RLIMIT_NPROC] = 0
    for name, value in limited.items():
        ceiling = resource.getrlimit(name)[1]
        soft = value if ceiling == resource.RLIM_INFINITY else min(value, ceiling)
        hard = soft if name != resource.RLIMIT_CPU else ceiling
        # Only SIGXCPU of the soft limit can be told from any other kill, so the hard one stays.
        resource.setrlimit(name, (soft, hard))
    signal.setitimer(signal.ITIMER_REAL, limits["wall_s"] + ORPHAN_GRACE_S)


def _private_output() -> int:
    """Keep the answer's pipe for ourselves; whatever the function prints goes to stderr."""
    private = os.dup(1)
    os.dup2(2, 1)
    return private


# With an error its frames would go, and with them a library's objects, whose clean-up may crash
# while the memory is used up: DuckDB's does, about one time in six.
_kept: list[BaseException] = []


def _call(target: str, files: dict[str, Path]) -> dict[str, Any]:
    try:
        argument = json.loads(sys.stdin.buffer.read(ARGUMENT_BYTES_MAX + 1))
        module, _, name = target.partition(":")
        function: Callable[[Any, dict[str, Path]], JsonValue] = getattr(_import_alone(module), name)
        return {"answer": function(argument, files)}
    except MemoryError as error:
        _kept.append(error)
        return {"error": ["memory", str(error)[:MESSAGE_CHARS_MAX] or "the memory is used up"]}
    except ValueError as error:
        return {"error": ["invalid", str(error)[:MESSAGE_CHARS_MAX]]}
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        return {"error": ["raised", message[:MESSAGE_CHARS_MAX]]}


def _import_alone(module: str) -> ModuleType:
    """Import a module without running its packages' `__init__`, which may pull in the whole bus."""
    parts = module.split(".")
    path: list[str] | None = None
    for depth in range(1, len(parts)):
        name = ".".join(parts[:depth])
        spec = PathFinder.find_spec(name, path)
        if spec is None or spec.submodule_search_locations is None:
            raise ImportError(f"no package {name}")
        path = list(spec.submodule_search_locations)
        package = sys.modules.setdefault(name, ModuleType(name))
        package.__path__ = path
    return importlib.import_module(module)


def _encode(reply: dict[str, Any]) -> bytes:
    try:
        return json.dumps(reply, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        return json.dumps({"error": ["raised", f"not JSON: {error}"[:MESSAGE_CHARS_MAX]]}).encode()
    except MemoryError:
        return b'{"error": ["memory", "the answer does not fit the memory"]}'


def _child(target: str, limits: dict[str, Any]) -> None:
    """The child's whole life; it ends without clean-up, which a broken library could hang."""
    output = _private_output()
    _limit_this_process(limits)
    reply = _encode(_call(target, {name: Path(path) for name, path in limits["files"].items()}))
    with os.fdopen(output, "wb") as pipe:
        pipe.write(reply)
    os._exit(0)


if __name__ == "__main__":
    _child(sys.argv[1], json.loads(sys.argv[2]))
