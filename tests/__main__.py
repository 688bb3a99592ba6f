"""`python -m tests [pytest arguments]`: every test over real servers, with coverage and its bars.

Two workers share the machine; a fresh order each time. With arguments only those tests run, and
the bars are not asked for. Coverage counts what runs in the tests' own processes, and not in tests
marked `no_cover`: counting doubles the time of each line.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parent.parent
WORKERS = "2"
SHARED_OUT = ("--dist", "loadfile", "--no-loadscope-reorder")
BARS = {
    "everything": (80.0, "*"),
    "bus/": (90.0, "bus/*"),
    "rules": (90.0, "handlers/*/rules*"),
}


def main() -> int:
    """Run pytest; then compare what it covered with the bars."""
    chosen = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="portal-tests-") as folder:
        os.environ["COVERAGE_FILE"] = f"{folder}/coverage"
        measure = [] if chosen else ["--cov", "--cov-report=", f"--cov-report=json:{folder}/c.json"]
        parallel = [] if chosen else ["-n", WORKERS, *SHARED_OUT]
        tests = subprocess.run(
            [sys.executable, "-m", "pytest", *parallel, *measure, *chosen], cwd=ROOT, check=False
        )
        if chosen:
            return tests.returncode
        missed = compare(json.loads(Path(f"{folder}/c.json").read_text())["files"])
        return tests.returncode or missed


def compare(files: dict[str, dict[str, dict[str, int]]]) -> int:
    """Say how much of each part is covered; 1 if one is below its bar."""
    missed = 0
    for part, (bar, pattern) in BARS.items():
        covered = percent(c["summary"] for name, c in files.items() if fnmatch(name, pattern))
        verdict = "held" if covered >= bar else "MISSED"
        print(f"coverage of {part}: {covered:.1f} % (bar {bar:.0f} %: {verdict})")
        missed |= covered < bar
    return int(missed)


def percent(summaries: Iterable[dict[str, int]]) -> float:
    """Lines and branches that were run, of all."""
    rows = list(summaries)
    run = sum(r["covered_lines"] + r.get("covered_branches", 0) for r in rows)
    there = sum(r["num_statements"] + r.get("num_branches", 0) for r in rows)
    return 100 * run / there if there else 0.0


if __name__ == "__main__":
    sys.exit(main())
