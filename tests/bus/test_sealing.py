"""Sealed values: they come back whole, only at their place, and through a change of master key."""

import stat
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bus import sealing
from bus.sealing import (
    BadMasterKeys,
    NotSealed,
    SealBroken,
    Sealer,
    UnknownMasterKey,
    Unsealable,
    fresh_keys,
    read_keys,
)

KEYS = fresh_keys()
SEALER = Sealer(KEYS.text)
texts = st.text(max_size=60)


@given(st.binary(max_size=300), texts)
def test_a_sealed_value_comes_back(plain: bytes, about: str) -> None:
    sealed = SEALER.seal(plain, about)
    assert sealed.isascii()
    assert SEALER.open_sealed(sealed, about) == plain


@given(st.binary(min_size=8, max_size=300), texts)
def test_a_sealed_text_does_not_hold_its_value(plain: bytes, about: str) -> None:
    first, second = SEALER.seal(plain, about), SEALER.seal(plain, about)
    assert first.split(".")[2:] != second.split(".")[2:]
    assert plain not in sealing._decoded(first.split(".")[3])


@given(st.binary(max_size=100), texts, texts)
def test_a_text_sealed_about_one_thing_does_not_open_for_another(
    plain: bytes, about: str, other: str
) -> None:
    assume(about != other)
    with pytest.raises(SealBroken):
        SEALER.open_sealed(SEALER.seal(plain, about), other)


@given(st.binary(max_size=100), st.binary(max_size=100), st.sampled_from([2, 3]))
def test_parts_of_two_texts_do_not_fit_together(one: bytes, two: bytes, part: int) -> None:
    mixed = SEALER.seal(one, "a").split(".")
    mixed[part] = SEALER.seal(two, "a").split(".")[part]
    with pytest.raises(SealBroken):
        SEALER.open_sealed(".".join(mixed), "a")


@settings(max_examples=300)
@given(st.binary(max_size=60), st.data())
def test_a_flipped_bit_anywhere_is_noticed(plain: bytes, data: st.DataObject) -> None:
    sealed = SEALER.seal(plain, "a")
    at = data.draw(st.integers(0, len(sealed) - 1))
    bit = data.draw(st.integers(0, 6))
    changed = sealed[:at] + chr(ord(sealed[at]) ^ 1 << bit) + sealed[at + 1 :]
    with pytest.raises(Unsealable):
        SEALER.open_sealed(changed, "a")


@given(st.text(max_size=120))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(NotSealed):
        SEALER.open_sealed(text, "a")


@given(st.integers(0, 5), st.binary(max_size=50))
def test_after_any_number_of_new_master_keys_all_open_and_the_newest_seals(
    rounds: int, plain: bytes
) -> None:
    keys, sealed = fresh_keys(), []
    for _ in range(rounds + 1):
        sealed.append(Sealer(keys.text).seal(plain, "a"))
        assert sealing.master_of(sealed[-1]) == keys.newest
        keys = keys.with_new()
    sealer = Sealer(keys.text)
    assert {sealer.open_sealed(text, "a") for text in sealed} == {plain}
    anew = [sealer.wrap_anew(text, "a") for text in sealed]
    alone = Sealer(keys.only({keys.newest}).text)
    assert {alone.open_sealed(text, "a") for text in anew} == {plain}
    with pytest.raises(UnknownMasterKey):
        alone.open_sealed(sealed[0], "a")


def test_a_value_wrapped_anew_stays_at_its_place() -> None:
    sealer = Sealer(KEYS.with_new().text)
    sealed = SEALER.seal(b"value", "a")
    with pytest.raises(SealBroken):
        sealer.wrap_anew(sealed, "b")
    with pytest.raises(SealBroken):
        sealer.open_sealed(sealer.wrap_anew(sealed, "a"), "b")


def test_a_running_sealer_learns_of_a_new_master_key(tmp_path: Path) -> None:
    sealer = Sealer.of(tmp_path)
    path = tmp_path / sealing.FILE
    path.write_text(read_keys(path.read_text()).with_new().text())
    assert sealer.open_sealed(Sealer.of(tmp_path).seal(b"value", "a"), "a") == b"value"
    assert sealer.newest == read_keys(path.read_text()).newest


def test_keyed_hashes_differ_by_purpose_and_outlive_master_keys() -> None:
    later = Sealer(KEYS.with_new().with_new().only(set()).text)
    assert SEALER.derive("one") == later.derive("one")
    assert len({SEALER.derive("one"), SEALER.derive("two"), Sealer.derive(other(), "one")}) == 3
    assert len(SEALER.derive("one")) == sealing.KEY_BYTES


def other() -> Sealer:
    return Sealer(fresh_keys().text)


def test_the_key_file_is_made_once_and_is_private(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    path = sealing.ensure_master_key(folder)
    made = path.read_text()
    assert sealing.ensure_master_key(folder).read_text() == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in folder.iterdir()] == [sealing.FILE]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hashes AAAA\n",
        "abcd AAAA\n",
        KEYS.text().splitlines()[0],
        KEYS.text() + "short AAAA\n",
        KEYS.text() + "not base64!\n",
        "\n".join(reversed(KEYS.text().splitlines())),
    ],
    ids=["empty", "short hashes", "no hashes", "no master", "short", "no base64", "reversed"],
)
def test_a_bad_key_file_is_refused(text: str) -> None:
    with pytest.raises(BadMasterKeys):
        Sealer(lambda: text)


def test_a_value_has_a_limit() -> None:
    with pytest.raises(ValueError, match="65536"):
        SEALER.seal(b"x" * (sealing.PLAIN_BYTES_MAX + 1), "a")
