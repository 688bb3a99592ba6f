"""The domains; each folder has the same skeleton.

    __init__.py     the service: name, layer, what it is about
    operations.py   one function for each operation
    reactions.py    what follows other domains' events; jobs and sweeps
    travel.py       its runs through time: states, forks, comparisons, reruns
    store.py        its SQL
    rules.py        its decisions, pure

A module that would grow too long is a package with a module a topic. A domain that needs another
calls its operation over the bus; it never imports it.
"""

DOMAINS = (
    "identity",
    "credentials",
    "events",
    "audit",
    "documents",
    "models",
    "tools",
    "agents",
    "goals",
    "evaluation",
    "registry",
    "supervision",
    "integration",
    "vault",
    "workflows",
    "human",
)
