"""Our tokenizer gives the ids of the reference tokenizer (recorded with `tokenizers` 0.23.3)."""

import time

import pytest

from deploy.embedded.model_server.wordpiece import encode, vocabulary

RECORDED: dict[str, list[int]] = {
    "": [101, 102],
    "Hello, World!": [101, 7592, 1010, 2088, 999, 102],
    "\xdcn\xefc\xf6d\xe9 stra\xdfe na\xefve": [101, 27260, 2358, 27807, 15743, 102],
    "\u6771\u4eac is \u5927\u90fd\u5e02": [101, 1879, 1755, 2003, 1810, 1961, 100, 102],
    "emoji \U0001f389\U0001f389 ok": [101, 7861, 29147, 2072, 100, 7929, 102],
    "def f(x): return x**2 # c": [
        101,
        13366,
        1042,
        1006,
        1060,
        1007,
        1024,
        2709,
        1060,
        1008,
        1008,
        1016,
        1001,
        1039,
        102,
    ],
    "https://a.b/c?d=e&f=%20": [
        101,
        16770,
        1024,
        1013,
        1013,
        1037,
        1012,
        1038,
        1013,
        1039,
        1029,
        1040,
        1027,
        1041,
        1004,
        1042,
        1027,
        1003,
        2322,
        102,
    ],
    "tab\tnew\nline\r\nx": [101, 21628, 2047, 2240, 1060, 102],
    "\x00a\x1cb\x85c\u200bd\ufeffe": [101, 5925, 3207, 102],
    "a\u2028b\u3000c": [101, 1037, 1038, 1039, 102],
    "x" * 101: [
        101,
        100,
        102,
    ],
    "\u0130stanbul \u03a3\u0391\u03a3 \u2167 \ufb01": [
        101,
        9960,
        1173,
        14608,
        29733,
        100,
        1984,
        102,
    ],
    "\ud55c\uad6d\uc5b4": [101, 1469, 30006, 30021, 29991, 30014, 30020, 29999, 30008, 102],
    "\u0939\u093f\u0928\u094d\u0926\u0940": [101, 1339, 29877, 29863, 29861, 29878, 102],
    "$100 + 5% = ^_^ `~|<>": [
        101,
        1002,
        2531,
        1009,
        1019,
        1003,
        1027,
        1034,
        1035,
        1034,
        1036,
        1066,
        1064,
        1026,
        1028,
        102,
    ],
    "don't\u2014stop\u2026": [101, 2123, 1005, 1056, 1517, 2644, 1529, 102],
    "tokenization of unaffable words": [101, 19204, 3989, 1997, 14477, 20961, 3468, 2616, 102],
}


@pytest.mark.parametrize("text", RECORDED)
def test_a_text_has_the_ids_of_the_reference(text: str) -> None:
    assert encode(text, 256) == (RECORDED[text], False)


def test_a_text_cannot_forge_the_frame() -> None:
    ids, _ = encode("[CLS] a [SEP] b", 256)
    assert (ids.count(101), ids.count(102)) == (1, 1)


def test_a_text_is_cut_inside_the_frame() -> None:
    ids, cut = encode("whale " * 300, 256)
    assert (len(ids), ids[0], ids[-1], cut) == (256, 101, 102, True)
    assert encode("whale " * 254, 256)[1] is False


def test_megabytes_cost_what_their_first_words_cost() -> None:
    begun = time.process_time()
    encode("whale " * 1_000_000, 256)
    assert time.process_time() - begun < 0.2


def test_the_vocabulary_is_whole() -> None:
    assert len(vocabulary()) == 30_522
    assert (vocabulary()["[CLS]"], vocabulary()["##ing"]) == (101, 2075)
