"""The model server: a small Ollama-compatible process over models that come in wheels.

Only how it is run is here; `model_server/` is the program. It is ready when it answers and has
loaded its models, which takes seconds.
"""

from deploy.embedded import probes
from deploy.embedded.certificates import Secured
from deploy.embedded.folder import PROJECT
from deploy.embedded.ports import LOOPBACK
from deploy.embedded.spec import Spec, module

START_S_MAX = 180.0


def spec(port: int, *, tls: Secured | None = None) -> Spec:
    """The server on that port; it keeps nothing."""
    trust = tls.trust if tls else None
    shown = ("--certificate", str(tls.file("models"))) if tls else ()
    return Spec(
        name="models",
        role="models",
        command=module("deploy.embedded.model_server", "--port", str(port), *shown),
        address=f"{LOOPBACK}:{port}",
        ready=probes.every(
            probes.http(port, "/api/version", trust=trust),
            probes.http(port, "/api/tags", b'"name"', trust=trust),
        ),
        alive=probes.http(port, "/api/version", trust=trust),
        folder=PROJECT,
        start_s_max=START_S_MAX,
    )


def url(port: int, *, tls: Secured | None = None) -> str:
    """How a client gets in."""
    return f"{'https' if tls else 'http'}://{LOOPBACK}:{port}"
