"""The tools that come with the platform, each a plain declaration and a function.

To add one: an input and an output model and a function under `@builtin` in a module named here.
Its definition is pinned by name and version, so a change of its schemas needs a new version.
"""

from handlers.tools.builtin import artifacts, calculator, documents, tabular, text
from handlers.tools.builtin.declaration import Builtin, Call

MODULES = (documents, tabular, text, calculator, artifacts)
BUILTINS: dict[str, Builtin] = {
    declared.name: declared
    for module in MODULES
    for declared in vars(module).values()
    if isinstance(declared, Builtin)
}

__all__ = ["BUILTINS", "Builtin", "Call"]
