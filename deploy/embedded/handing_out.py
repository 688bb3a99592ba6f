"""Which secrets each process gets: a folder of its own, with what it needs and nothing else.

`secrets/` is the supervisor's and the operator's; `secrets/edge` and `secrets/handlers` hold copies
for these two, and links to what may be replaced while they run. So the edge cannot sign as a layer
or come onto the bus as one, nor the other way round, as far as they can read only their own folder.
"""

import shutil
from pathlib import Path

from deploy.embedded.folder import DataFolder, write_private

SEED = "portal_nats_seed"
ROLE = "portal_nats_role"
NEEDS = {
    "edge": ("portal_nats_url", "portal_redis_url", "edge.key", "edge.pub", "handlers.pub"),
    "handlers": (
        "portal_nats_url", "portal_postgres_url", "portal_redis_url", "handlers.key",
        "handlers.pub", "edge.pub", "master.key",
    ),
}  # fmt: skip
SEEDS = {
    "edge": {SEED: "edge"},
    "handlers": {
        SEED: "handlers", "portal_gatekeeper_seed": "gatekeeper", "portal_issuer_seed": "issuer",
    },
}  # fmt: skip
OPERATOR = "admin"
REPLACED = ("portal_postgres_url", "master.key")


def hand_out(folder: DataFolder, *, own_bus: bool) -> None:
    """Write every process's folder anew; a bus of somebody else's has no seeds of ours."""
    for name in (ROLE, SEED):
        (folder.secrets / name).unlink(missing_ok=True)
    if own_bus:
        write_private(folder.secrets / ROLE, OPERATOR)
        write_private(folder.secrets / SEED, seed(folder, OPERATOR))
    for process, names in NEEDS.items():
        place = folder.secrets / process
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(mode=0o700)
        for name in names:
            if name in REPLACED:
                (place / name).symlink_to(Path("..") / name)
            elif (folder.secrets / name).exists():
                write_private(place / name, (folder.secrets / name).read_text())
        if own_bus:
            write_private(place / ROLE, process)
            for name, role in SEEDS[process].items():
                write_private(place / name, seed(folder, role))


def seed(folder: DataFolder, role: str) -> str:
    """The NKey seed of a role."""
    return (folder.nats_seeds / f"{role}.seed").read_text()
