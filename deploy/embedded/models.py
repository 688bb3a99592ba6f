"""The model server: a small Ollama-compatible process over models that come in wheels.

Only how it is run is here; `model_server/` is the program. It is ready when it answers and has
loaded its models, which takes seconds.
"""

from deploy.embedded import probes
from deploy.embedded.folder import PROJECT
from deploy.embedded.ports import LOOPBACK
from deploy.embedded.spec import Spec, module

START_S_MAX = 180.0


def spec(port: int) -> Spec:
    """The server on that port; it keeps nothing."""
    return Spec(
        name="models",
        role="models",
        command=module("deploy.embedded.model_server", "--port", str(port)),
        address=f"{LOOPBACK}:{port}",
        ready=probes.every(
            probes.http(port, "/api/version"), probes.http(port, "/api/tags", b'"name"')
        ),
        alive=probes.http(port, "/api/version"),
        folder=PROJECT,
        start_s_max=START_S_MAX,
    )


def url(port: int) -> str:
    """How a client gets in."""
    return f"http://{LOOPBACK}:{port}"
