"""Documents rendered from the catalogue: OpenAPI, AsyncAPI, bus reference, permissions, problems.

Each renderer is a pure function. `python -m schemas.render` writes them all to `docs/generated`;
`--check` tells which are stale.
"""
