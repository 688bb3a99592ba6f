"""Functions that misbehave in one way each, to be run confined; never imported by the platform."""

import os
import sys
import time
from pathlib import Path
from typing import Any


def echo(argument: Any, files: dict[str, Path]) -> Any:
    return {"argument": argument, "files": {n: p.read_bytes().decode() for n, p in files.items()}}


def surroundings(argument: Any, files: dict[str, Path]) -> Any:
    return {"environment": dict(os.environ), "folder": str(Path.cwd()), "pid": os.getpid()}


def refuse(argument: Any, files: dict[str, Path]) -> Any:
    raise ValueError("row 3 is broken " + "x" * 5000)


def break_down(argument: Any, files: dict[str, Path]) -> Any:
    raise KeyError("unexpected")


def sleep_forever(argument: Any, files: dict[str, Path]) -> Any:
    if argument:
        Path(argument).write_text(f"{os.getpid()} {Path.cwd()}")
    time.sleep(3600)


def spin_forever(argument: Any, files: dict[str, Path]) -> Any:
    while True:
        pass


def allocate_forever(argument: Any, files: dict[str, Path]) -> Any:
    kept = []
    while True:
        kept.append(bytearray(16 << 20))


def fork_forever(argument: Any, files: dict[str, Path]) -> Any:
    Path(argument).write_text(str(os.getpid()))
    for _ in range(40):
        if os.fork() == 0:
            time.sleep(3600)
    time.sleep(3600)


def print_forever(argument: Any, files: dict[str, Path]) -> Any:
    while True:
        sys.stdout.write("flood " * 1000)


def answer_much(argument: Any, files: dict[str, Path]) -> Any:
    return "x" * (4 << 20)


def write_big_file(argument: Any, files: dict[str, Path]) -> Any:
    with Path("big").open("wb") as file:
        while True:
            file.write(b"\0" * (16 << 20))


def answer_no_json(argument: Any, files: dict[str, Path]) -> Any:
    return {"set": {1, 2}}


def die(argument: Any, files: dict[str, Path]) -> Any:
    os.abort()


def exit_quietly(argument: Any, files: dict[str, Path]) -> Any:
    os._exit(0)


def exhaust(argument: Any, files: dict[str, Path]) -> Any:
    raise MemoryError
