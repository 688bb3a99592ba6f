"""Certificates: an authority of our own, a certificate for each role, and how long each is good.

    authority (ECDSA P-256) ── signs ──► one certificate a role      a PEM file: key, leaf, crosses
        │ replaced by
        ▼
    next authority, also signed by the one before (its "cross")

The cross is what makes the authority itself replaceable under load: who trusts only the old one
follows leaf → cross → old, who trusts only the new one needs no cross. So nothing has to be
reloaded in an order, and at no moment do two of our processes distrust each other.

Pure: time comes in, bytes go out. Files are the matter of `bus/certificate_folder.py`.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ORGANISATION = "Story Portal"
LIFE = timedelta(days=90)
AUTHORITY_LIFE = timedelta(days=3650)
WARN_DAYS = 30
CLOCK_SKEW = timedelta(minutes=5)
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
SERVES = ExtendedKeyUsageOID.SERVER_AUTH
ASKS = ExtendedKeyUsageOID.CLIENT_AUTH
ROLES: dict[str, tuple[x509.ObjectIdentifier, ...]] = {
    "nats": (SERVES,),
    "nats-cluster": (SERVES, ASKS),
    "postgres": (SERVES,),
    "valkey": (SERVES,),
    "pgbouncer": (SERVES, ASKS),
    "models": (SERVES,),
    "metrics": (SERVES,),
    "edge": (SERVES, ASKS),
    "handlers": (ASKS,),
    "admin": (ASKS,),
}
"""Who has a certificate, and whether it serves, asks, or both."""

Key = ec.EllipticCurvePrivateKey
Certificate = x509.Certificate


@dataclass(frozen=True)
class Authority:
    """A key that signs. `chain` is its own certificate, then the cross if it has one."""

    key: Key
    chain: tuple[Certificate, ...]

    @property
    def certificate(self) -> Certificate:
        """The one that others trust."""
        return self.chain[0]

    @property
    def crosses(self) -> tuple[Certificate, ...]:
        """The same name and key, signed by the authority before."""
        return self.chain[1:]


@dataclass(frozen=True)
class Standing:
    """What a certificate says of itself, at one moment."""

    name: str
    subject: str
    issuer: str
    hosts: tuple[str, ...]
    not_after: datetime
    days_left: int

    @property
    def due(self) -> bool:
        """Whether it should be replaced."""
        return self.days_left < WARN_DAYS


def new_authority(at: datetime, before: Authority | None = None) -> Authority:
    """An authority; with one before it, also signed by that one."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = named(f"{ORGANISATION} authority {x509.random_serial_number():x}"[:48])
    own = authority_builder(name, name, key, at).add_extension(identifier_of(key), critical=False)
    chain = [own.sign(key, hashes.SHA256())]
    if before is not None:
        issuer = before.certificate
        cross = authority_builder(name, issuer.subject, key, at, issuer.not_valid_after_utc)
        cross = cross.add_extension(identifier_of(before.key), critical=False)
        chain.append(cross.sign(before.key, hashes.SHA256()))
    return Authority(key, tuple(chain))


def issue(
    authority: Authority, role: str, hosts: Sequence[str], at: datetime, life: timedelta = LIFE
) -> bytes:
    """A key and its certificate for a role, in one PEM text; good for the hosts it names.

    One file, because a key and a certificate in two can be read while only one is new.

    Raises:
        KeyError: There is no such role.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    until = min(at + life, authority.certificate.not_valid_after_utc)
    builder = (
        dated(named(role), authority.certificate.subject, key, at, until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage(ROLES[role]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names_of(hosts)), critical=False)
        .add_extension(identifier_of(authority.key), critical=False)
    )
    leaf = builder.sign(authority.key, hashes.SHA256())
    return key_text(key) + bundle((leaf, *authority.crosses))


def standing(name: str, certificate: Certificate, at: datetime) -> Standing:
    """How a certificate stands; a day that has begun still counts as none."""
    return Standing(
        name=name,
        subject=common_name(certificate.subject),
        issuer=common_name(certificate.issuer),
        hosts=hosts_of(certificate),
        not_after=certificate.not_valid_after_utc,
        days_left=(certificate.not_valid_after_utc - at).days,
    )


def hosts_of(certificate: Certificate) -> tuple[str, ...]:
    """The names and addresses it is good for."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(general.value) for general in found.value)


def signed_by(certificate: Certificate, authority: Certificate) -> bool:
    """Whether this authority, and no other one of the same name, has signed it."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def is_ours(authority: Certificate) -> bool:
    """Whether `new_authority` has made it."""
    organisations = authority.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return any(one.value == ORGANISATION for one in organisations)


def bundle(certificates: Sequence[Certificate]) -> bytes:
    """Certificates as one PEM text, each once."""
    texts = [one.public_bytes(serialization.Encoding.PEM) for one in certificates]
    return b"".join(dict.fromkeys(texts))


def key_text(key: Key) -> bytes:
    """A private key as PEM, PKCS #8."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def read_key(text: bytes) -> Key:
    """The private key in a PEM text.

    Raises:
        TypeError: It is of another kind.
    """
    key = serialization.load_pem_private_key(text, password=None)
    if not isinstance(key, Key):
        raise TypeError("the authority's key is not on an elliptic curve")
    return key


def named(common: str) -> x509.Name:
    """A distinguished name."""
    return x509.Name([
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANISATION),
        x509.NameAttribute(NameOID.COMMON_NAME, common),
    ])  # fmt: skip


def common_name(name: x509.Name) -> str:
    """The last part of it that people know."""
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else name.rfc4514_string()


def names_of(hosts: Sequence[str]) -> list[x509.GeneralName]:
    """Hosts as they stand in a certificate, each once."""
    return [general_name(host) for host in dict.fromkeys(hosts)]


def general_name(host: str) -> x509.GeneralName:
    """An address if it reads as one, else a name."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def dated(
    subject: x509.Name, issuer: x509.Name, key: Key, at: datetime, until: datetime
) -> x509.CertificateBuilder:
    """What every certificate has; good a little earlier, because clocks differ."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - CLOCK_SKEW)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def authority_builder(
    name: x509.Name, issuer: x509.Name, key: Key, at: datetime, until: datetime | None = None
) -> x509.CertificateBuilder:
    """A certificate that may sign leaves, and one authority that replaces it."""
    until = min(at + AUTHORITY_LIFE, until or at + AUTHORITY_LIFE)
    return (
        dated(name, issuer, key, at, until)
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(usage(key_cert_sign=True, crl_sign=True), critical=True)
    )


def identifier_of(key: Key) -> x509.AuthorityKeyIdentifier:
    """Which key signs."""
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())


def usage(**wanted: bool) -> x509.KeyUsage:
    """The key usages that are named, and no others."""
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
        "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    every: dict[str, Any] = dict.fromkeys(names, False)
    return x509.KeyUsage(**every | wanted)
