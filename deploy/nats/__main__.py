"""`python -m deploy.nats`: write `accounts.conf`, or with `--check` tell whether it is stale."""

import argparse
import sys

from deploy.nats.render import accounts
from deploy.nats.server import ACCOUNTS


def main() -> None:
    """Write or check."""
    parser = argparse.ArgumentParser(prog="python -m deploy.nats", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if it is stale")
    arguments = parser.parse_args()
    text = accounts()
    if ACCOUNTS.exists() and ACCOUNTS.read_text(encoding="utf-8") == text:
        return
    print(f"{'stale' if arguments.check else 'written'}: {ACCOUNTS.name}", file=sys.stderr)
    if arguments.check:
        raise SystemExit(1)
    ACCOUNTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
