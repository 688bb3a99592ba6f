"""The folder of certificates: what it holds, and replacing it file by file.

    ca.pem          whom all of us trust: the authority, and the one before it until it is retired
    authority.pem   key, certificate and cross of the authority; whoever reads it is trusted by all
    <role>.pem      key, certificate, crosses; one file, so that a reader never sees half of it
    public.pem      optional: what the edge shows to the world, from ACME or another authority

Everything is 0600 and replaced by a rename. Without `authority.pem` the certificates come from
elsewhere: they are read and watched, never written. In `ca.pem` and among the roles may also stand
what another authority has made; that is left as it is.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from cryptography import x509

from bus import certificates
from bus.certificates import Authority, Certificate, Standing
from bus.credentials import write_secret

TRUST = "ca"
AUTHORITY = "authority"
PUBLIC = "public"


class NoAuthority(Exception):
    """The folder has no authority of its own, so nothing can be issued."""


class CertificateFolder:
    """One folder of certificates."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def of(self, name: str) -> Path:
        """The file of a role, or of `ca`, `authority`, `public`."""
        return self.root / f"{name}.pem"

    @property
    def own(self) -> bool:
        """Whether certificates can be made here."""
        return self.of(AUTHORITY).exists()

    def missing(self) -> list[str]:
        """Whose file is not here."""
        return [name for name in (TRUST, *certificates.ROLES) if not self.of(name).exists()]

    def init(self, hosts: Sequence[str], at: datetime) -> list[str]:
        """Make what is missing; returns the names of what was made."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = []
        if not self.of(TRUST).exists():
            self._take(certificates.new_authority(at), trusted=())
            made.append(TRUST)
        if self.own:
            made += self.issue(self.missing(), hosts, at)
        return made

    def issue(self, roles: Iterable[str], hosts: Sequence[str], at: datetime) -> list[str]:
        """New keys and certificates for these roles; hosts are added to what each had.

        Raises:
            NoAuthority: There is no key to sign with.
        """
        authority = self.authority()
        done = []
        for role in roles:
            known = (*self._hosts(role), *certificates.LOCAL_HOSTS, *hosts)
            write_secret(self.of(role), certificates.issue(authority, role, known, at))
            done.append(role)
        return done

    def rotate(self, at: datetime) -> list[str]:
        """New keys and certificates for every role that our authority has signed."""
        return self.issue(self._own_roles(), (), at)

    def rotate_authority(self, at: datetime) -> list[str]:
        """A new authority beside the old one, and new certificates from it."""
        roles = self._own_roles()
        before = self.authority()
        self._take(certificates.new_authority(at, before), trusted=self.trusted())
        return [AUTHORITY, *self.issue(roles, (), at)]

    def retire(self, at: datetime) -> list[str]:
        """Trust the present authority only, and issue certificates that lean on no other."""
        roles = self._own_roles()
        now = self.authority()
        foreign = [one for one in self.trusted() if not certificates.is_ours(one)]
        self._take(Authority(now.key, (now.certificate,)), trusted=foreign)
        return [TRUST, *self.issue(roles, (), at)]

    def renew(self, at: datetime) -> list[str]:
        """New certificates for the roles of ours that are due; nothing without an authority."""
        if not self.own:
            return []
        own = self._own_roles()
        due = [one.name for one in self.standings(at) if one.due and one.name in own]
        return self.issue(due, (), at)

    def standings(self, at: datetime) -> list[Standing]:
        """How every certificate stands that this process may read."""
        return [certificates.standing(name, one, at) for name, one in self._all()]

    def authority(self) -> Authority:
        """The key that signs.

        Raises:
            NoAuthority: It is not here.
        """
        if not self.own:
            raise NoAuthority(f"no {self.of(AUTHORITY)}: these certificates come from elsewhere")
        path = self.of(AUTHORITY)
        return Authority(certificates.read_key(path.read_bytes()), tuple(load(path)))

    def trusted(self) -> tuple[Certificate, ...]:
        """Whom all of us trust."""
        return tuple(load(self.of(TRUST)))

    def _all(self) -> Iterator[tuple[str, Certificate]]:
        for number, one in enumerate(self._readable(TRUST)):
            yield (TRUST if number == 0 else f"{TRUST}-{number + 1}"), one
        for name in (*certificates.ROLES, PUBLIC):
            for one in self._readable(name)[:1]:
                yield name, one

    def _readable(self, name: str) -> list[Certificate]:
        try:
            return load(self.of(name))
        except OSError:
            return []

    def _own_roles(self) -> list[str]:
        """The roles whose certificate is from an authority of ours, the present or the last."""
        ours = [one for one in self.trusted() if certificates.is_ours(one)]
        return [
            role
            for role in certificates.ROLES
            for leaf in self._readable(role)[:1]
            if any(certificates.signed_by(leaf, one) for one in ours)
        ]

    def _hosts(self, role: str) -> tuple[str, ...]:
        return next(map(certificates.hosts_of, self._readable(role)), ())

    def _take(self, authority: Authority, trusted: Sequence[Certificate]) -> None:
        """Trust it first, sign with it afterwards."""
        write_secret(self.of(TRUST), certificates.bundle((authority.certificate, *trusted)))
        text = certificates.key_text(authority.key) + certificates.bundle(authority.chain)
        write_secret(self.of(AUTHORITY), text)


def load(path: Path) -> list[Certificate]:
    """The certificates of a PEM file, in their order; a key in it is passed over.

    Raises:
        OSError: It cannot be read.
    """
    text = path.read_bytes()
    return x509.load_pem_x509_certificates(text) if b"BEGIN CERTIFICATE" in text else []
