"""Sentence embeddings: all-MiniLM-L6-v2 by onnxruntime.

A text becomes at most 256 word pieces (as the model was trained), the last hidden states are
averaged over the attention mask, and the mean is scaled to length 1, so that a dot product is a
cosine. Texts are run in small batches of similar length, because padding costs as much as text.
One thread: the chat model needs the other core.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from deploy.embedded.model_server.errors import ApiError
from deploy.embedded.model_server.wordpiece import encode

_ort: Any = onnxruntime  # It does not export its types.
DIMENSIONS = 384
PIECES_MAX = 256
BATCH_PIECES = 512

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Embedded:
    """Unit vectors in the order of the texts, and how many word pieces they took."""

    vectors: Vectors
    pieces: int


class Embedder:
    """The embedding model, loaded. `embed` blocks; one thread at a time may call it."""

    def __init__(self, path: Path) -> None:
        options = _ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        self._session = _ort.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )

    def embed(self, texts: Sequence[str], *, truncate: bool, stop: threading.Event) -> Embedded:
        """Embed `texts`; a text over 256 word pieces is cut, or refused without `truncate`."""
        encoded = [_encode(text, truncate=truncate) for text in texts]
        vectors = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
        for rows in _batches(encoded):
            if stop.is_set():
                raise ApiError(503, "the server is stopping")
            vectors[rows] = self._run([encoded[row] for row in rows])
        return Embedded(vectors, sum(map(len, encoded)))

    def _run(self, batch: list[list[int]]) -> Vectors:
        width = max(map(len, batch))
        ids = np.array([row + [0] * (width - len(row)) for row in batch], dtype=np.int64)
        mask = np.array([[1] * len(row) + [0] * (width - len(row)) for row in batch], np.int64)
        inputs = {
            "input_ids": ids,
            "attention_mask": mask,
            "token_type_ids": np.zeros_like(ids),
        }
        outputs: Any = self._session.run(None, inputs)
        weight = mask[:, :, None].astype(np.float32)
        return unit((outputs[0] * weight).sum(axis=1) / weight.sum(axis=1))


def unit(vectors: Vectors) -> Vectors:
    """Scale each row to length 1."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-12), dtype=np.float32)


def _encode(text: str, *, truncate: bool) -> list[int]:
    ids, cut = encode(text, PIECES_MAX)
    if cut and not truncate:
        raise ApiError(400, f"the input length exceeds the context length of {PIECES_MAX} pieces")
    return ids


def _batches(encoded: list[list[int]]) -> Iterator[list[int]]:
    """Rows of similar length, at most BATCH_PIECES with their padding: that bounds memory."""
    batch: list[int] = []
    for row in sorted(range(len(encoded)), key=lambda row: len(encoded[row])):
        if batch and (len(batch) + 1) * len(encoded[row]) > BATCH_PIECES:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
