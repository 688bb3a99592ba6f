"""DBOS, a library: this process starts its runs, drives them and is all of it but Postgres.

`ready`, then a line comes in, then one line of JSON goes out: seconds, and each run's. Threads and
plain functions, because here they cost it less than its coroutines.
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from dbos import DBOS

_, URL, AT_ONCE, SECONDS = sys.argv
DBOS(config={"name": "bench", "system_database_url": URL, "log_level": "WARNING"})


@DBOS.step()
def nothing(n: int) -> int:
    """A step."""
    return n


@DBOS.workflow()
def run(n: int) -> int:
    """A run of three."""
    for _step in "abc":
        n = nothing(n)
    return n


def line(until: float) -> list[float]:
    """One run after another."""
    latencies_s = []
    while (started := time.perf_counter()) < until:
        run(1)
        latencies_s.append(time.perf_counter() - started)
    return latencies_s


DBOS.launch()
run(1)
print("ready", flush=True)
sys.stdin.readline()
began = time.perf_counter()
with ThreadPoolExecutor(int(AT_ONCE)) as threads:
    lines = threads.map(line, [began + float(SECONDS)] * int(AT_ONCE))
    found = [one for latencies_s in lines for one in latencies_s]
print(json.dumps({"seconds": time.perf_counter() - began, "latencies_s": found}), flush=True)
# What it used is read while it still runs.
sys.stdin.readline()
DBOS.destroy()
