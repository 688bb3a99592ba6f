"""Sealed values: what must be stored and read again, unreadable without the master key.

    master key (file, several while one is replaced)
        └ wraps a fresh 256-bit key for each value, which encrypts the value (AES-256-GCM)

Both steps are bound to `about`, the place where the value belongs (`table/id`), so that a sealed
text copied to another row does not open there. A sealed text names its master key: the newest
seals, all open. The keys are read again when one is not known and after half a minute, so that a
new one needs no restart. Replacing a master key wraps the value's key anew; the value stays.

The first line of the key file is not a master key: keyed hashes are made from it (`derive`). They
cannot be made again without what was hashed, so that key stays when master keys are replaced.

    hashes 3q2…                 one line each: the key's id, 256 bits in base64
    5e1f09ac 8fK…
"""

import base64
import binascii
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

FILE = "master.key"
FORM = "sealed1"
PARTS = 3  # id of the master key, wrapped key, sealed value
HASHES = "hashes"
KEY_BYTES = 32
NONCE_BYTES = 12
PLAIN_BYTES_MAX = 64 * 1024
FRESH_S = 30.0


class Unsealable(Exception):
    """A sealed text does not give its value."""


class NotSealed(Unsealable):
    """It is not of the form of a sealed text."""


class UnknownMasterKey(Unsealable):
    """It was sealed under a master key that this process does not have."""


class SealBroken(Unsealable):
    """It was changed, or it belongs to another place."""


class BadMasterKeys(ValueError):
    """The key file is not one."""


@dataclass(frozen=True)
class MasterKeys:
    """What the key file holds; the newest master key is the last."""

    hashes: bytes
    masters: dict[str, bytes]

    @property
    def newest(self) -> str:
        """The id of the key that seals."""
        return next(reversed(self.masters))

    def with_new(self) -> "MasterKeys":
        """The same, and a fresh master key that seals from now on."""
        fresh = {secrets.token_hex(4): secrets.token_bytes(KEY_BYTES)}
        return MasterKeys(self.hashes, self.masters | fresh)

    def only(self, used: set[str]) -> "MasterKeys":
        """Without the master keys that are neither used nor the newest."""
        kept = {name: key for name, key in self.masters.items() if name in used | {self.newest}}
        return MasterKeys(self.hashes, kept)

    def text(self) -> str:
        """As it stands in the file."""
        keys = {HASHES: self.hashes, **self.masters}
        lines = (f"{name} {base64.b64encode(key).decode()}\n" for name, key in keys.items())
        return "".join(lines)


def fresh_keys() -> MasterKeys:
    """The keys of a new installation."""
    return MasterKeys(secrets.token_bytes(KEY_BYTES), {}).with_new()


def read_keys(text: str) -> MasterKeys:
    """Read the content of a key file.

    Raises:
        BadMasterKeys: It is not of the form, or a key is not of 256 bits.
    """
    keys: dict[str, bytes] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, coded = line.partition(" ")
        try:
            keys[name] = base64.b64decode(coded, validate=True)
        except binascii.Error:
            raise BadMasterKeys(f"the key {name[:16]!r} is not base64") from None
        if len(keys[name]) != KEY_BYTES:
            raise BadMasterKeys(f"the key {name[:16]!r} is not of {KEY_BYTES} bytes")
    first, *masters = keys or (None,)
    if first != HASHES or not masters:
        raise BadMasterKeys(f"a line {HASHES!r} and then at least one master key are needed")
    return MasterKeys(keys.pop(HASHES), keys)


def ensure_master_key(folder: Path) -> Path:
    """The key file of this installation below `folder`, made if it is missing (mode 0600)."""
    path = folder / FILE
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = folder / f"{FILE}.{secrets.token_hex(4)}"
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(fresh_keys().text())
        try:
            path.hardlink_to(part)  # of two that begin at once, both use the first one's
        except FileExistsError:
            pass
        finally:
            part.unlink()
    return path


class Sealer:
    """Seals and opens with the keys that `source` gives; only handlers processes have one.

    Raises:
        BadMasterKeys: What the source gives is not a key file.
    """

    def __init__(self, source: Callable[[], str]) -> None:
        self._source = source
        self._read()

    @classmethod
    def of(cls, folder: Path) -> "Sealer":
        """With the key file in this folder, made if it is missing."""
        return cls(ensure_master_key(folder).read_text)

    def seal(self, plain: bytes, about: str) -> str:
        """A text that only `open_sealed` with the same `about` turns into the value again.

        Raises:
            ValueError: The value is longer than 64 KiB.
        """
        if len(plain) > PLAIN_BYTES_MAX:
            raise ValueError(f"a sealed value has at most {PLAIN_BYTES_MAX} bytes")
        own_key = secrets.token_bytes(KEY_BYTES)
        return self._joined(own_key, _encrypt(own_key, plain, about.encode()), about)

    def open_sealed(self, text: str, about: str) -> bytes:
        """The value that was sealed.

        Raises:
            NotSealed: The text is not of the form.
            UnknownMasterKey: It needs a master key that is not here.
            SealBroken: It was changed, or sealed about something else.
        """
        own_key, sealed = self._unwrapped(text, about)
        return _decrypt(own_key, sealed, about.encode())

    def wrap_anew(self, text: str, about: str) -> str:
        """The same sealed value under the newest master key; raises as `open_sealed` does."""
        own_key, sealed = self._unwrapped(text, about)
        _decrypt(own_key, sealed, about.encode())
        return self._joined(own_key, sealed, about)

    def derive(self, purpose: str) -> bytes:
        """256 bits for the keyed hashes of one purpose; the same for as long as data lives."""
        return HKDF(hashes.SHA256(), KEY_BYTES, None, purpose.encode()).derive(self._keys.hashes)

    @property
    def newest(self) -> str:
        """The id of the master key that seals."""
        return self._fresh().newest

    def _joined(self, own_key: bytes, sealed: bytes, about: str) -> str:
        keys = self._fresh()
        wrapped = _encrypt(keys.masters[keys.newest], own_key, _place(keys.newest, about))
        return ".".join((FORM, keys.newest, _coded(wrapped), _coded(sealed)))

    def _unwrapped(self, text: str, about: str) -> tuple[bytes, bytes]:
        """The value's own key, and the value as it is stored."""
        name, wrapped, sealed = _split(text)
        if name not in self._keys.masters:
            self._read()
        master = self._keys.masters.get(name)
        if master is None:
            raise UnknownMasterKey(f"no master key {name!r} here")
        return _decrypt(master, wrapped, _place(name, about)), sealed

    def _fresh(self) -> MasterKeys:
        if time.monotonic() - self._read_at > FRESH_S:
            self._read()
        return self._keys

    def _read(self) -> None:
        self._keys = read_keys(self._source())
        self._read_at = time.monotonic()


def master_of(text: str) -> str:
    """The id of the master key that a sealed text names.

    Raises:
        NotSealed: The text is not of the form.
    """
    return _split(text)[0]


def _place(name: str, about: str) -> bytes:
    return f"{FORM}.{name}.{about}".encode()


def _encrypt(key: bytes, plain: bytes, about: bytes) -> bytes:
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, about)


def _decrypt(key: bytes, sealed: bytes, about: bytes) -> bytes:
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], about)
    except (InvalidTag, ValueError):
        raise SealBroken("the sealed text was changed or belongs elsewhere") from None


def _split(text: str) -> tuple[str, bytes, bytes]:
    form, *parts = text.split(".")
    if form != FORM or len(parts) != PARTS:
        raise NotSealed("not a sealed text")
    return parts[0], _decoded(parts[1]), _decoded(parts[2])


def _coded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    """The bytes; only the one spelling that `_coded` gives is taken."""
    try:
        content = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise NotSealed("not a sealed text") from None
    if _coded(content) != text:
        raise NotSealed("not a sealed text")
    return content
