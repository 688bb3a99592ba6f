"""How the platform is run: on one machine without containers, in containers, in a cluster.

`embedded/` is a Python package; the other folders hold configuration for other people's programs.
Nothing in `schemas/`, `bus/`, `handlers/` or `edge/` imports from here.
"""
