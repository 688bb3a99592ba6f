"""`python -m handlers [domain or layer …]`: a process with these domains, or with all of them."""

import argparse
import pkgutil
import sys
from importlib import import_module

import uvloop

from bus import process
from bus.service import Service
from bus.settings import load
from handlers import DOMAINS
from schemas import catalogue


def load_service(domain: str) -> Service:
    """The domain's service, with everything that its modules register."""
    package = import_module(f"handlers.{domain}")
    for module in ("operations", "reactions", "travel"):
        if any(found.name == module for found in pkgutil.iter_modules(package.__path__)):
            list(catalogue.modules_of(f"handlers.{domain}.{module}"))
    service: Service = package.service
    return service


def chosen(names: list[str]) -> list[Service]:
    """The services of these domains or layers; all when no name is given."""
    services = [load_service(domain) for domain in DOMAINS]
    if not names:
        return services
    unknown = set(names) - {s.name for s in services} - {s.layer for s in services}
    if unknown:
        print(f"no such domain or layer: {', '.join(sorted(unknown))}", file=sys.stderr)
        raise SystemExit(2)
    return [s for s in services if s.name in names or s.layer in names]


def main() -> None:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m handlers", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of: {', '.join(DOMAINS)}; or layers L01 … L12")
    arguments = parser.parse_args()
    services = chosen(arguments.names)
    uvloop.run(process.run(load(), services))


if __name__ == "__main__":
    main()
