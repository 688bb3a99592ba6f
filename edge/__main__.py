"""`python -m edge`: one edge process. Settings come from the environment; see docs/generated."""

import argparse
import json

import uvloop

from bus.settings import load
from edge import app


def main() -> None:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m edge", description=__doc__)
    parser.add_argument("--json", action="store_true", help="say as JSON where it listens")
    arguments = parser.parse_args()

    def started(url: str) -> None:
        line = json.dumps({"event": "started", "process": "edge", "url": url})
        print(line if arguments.json else f"edge: {url}  (documents: {url}/docs)", flush=True)

    uvloop.run(app.run(load(), started))


if __name__ == "__main__":
    main()
