"""BERT's uncased WordPiece tokenizer, for the embedding model.

Text is cut at white space, cleaned, lower-cased and stripped of accents, split at punctuation and
CJK characters, and each word is covered greedily by the longest known pieces. Work stops as soon
as the limit is reached, so a text of megabytes costs what its first words cost. Special tokens
that are spelt out in a text (`[SEP]`) stay ordinary text: an input cannot forge the frame.
"""

import gzip
import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from itertools import islice

WORD_CHARS_MAX = 100
CLS, SEP, UNKNOWN = 101, 102, 100
_CHUNK = re.compile("[^ \t\n\r\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")
_CJK = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


def encode(text: str, pieces_max: int) -> tuple[list[int], bool]:
    """Return at most `pieces_max` ids, framed by CLS and SEP, and whether the text was cut."""
    room = pieces_max - 2
    pieces = list(islice(_pieces(text), room + 1))
    return [CLS, *pieces[:room], SEP], len(pieces) > room


@cache
def vocabulary() -> dict[str, int]:
    """Return the word pieces and their ids."""
    packed = files(__package__).joinpath("wordpieces.txt.gz").read_bytes()
    lines = gzip.decompress(packed).decode().split("\n")
    return {piece: number for number, piece in enumerate(lines)}


def _pieces(text: str) -> Iterator[int]:
    known = vocabulary()
    for chunk in _CHUNK.finditer(text):
        for word in _words(chunk.group()):
            yield from _cover(word, known)


def _words(chunk: str) -> Iterator[str]:
    """Split one white-space-free chunk at punctuation and CJK characters."""
    word: list[str] = []
    for char in _normalised(chunk):
        if not _stands_alone(char):
            word.append(char)
            continue
        if word:
            yield "".join(word)
            word.clear()
        yield char
    if word:
        yield "".join(word)


def _normalised(chunk: str) -> str:
    kept = "".join(char for char in chunk if not _is_dropped(char))
    plain = unicodedata.normalize("NFD", kept)
    # Character by character: str.lower() of a whole word changes a sigma at its end.
    return "".join(char.lower() for char in plain if unicodedata.category(char) != "Mn")


@cache
def _is_dropped(char: str) -> bool:
    return char in "\0\ufffd" or unicodedata.category(char) in {"Cc", "Cf", "Co", "Cs"}


@cache
def _stands_alone(char: str) -> bool:
    code = ord(char)
    ascii_symbol = char.isascii() and char.isprintable() and not char.isalnum()
    punctuation = unicodedata.category(char).startswith("P")
    return ascii_symbol or punctuation or any(low <= code <= high for low, high in _CJK)


def _cover(word: str, known: dict[str, int]) -> list[int]:
    if len(word) > WORD_CHARS_MAX:
        return [UNKNOWN]
    pieces: list[int] = []
    start = 0
    while start < len(word):
        prefix = "##" if start else ""
        for end in range(len(word), start, -1):
            number = known.get(prefix + word[start:end])
            if number is not None:
                break
        else:
            return [UNKNOWN]
        pieces.append(number)
        start = end
    return pieces
