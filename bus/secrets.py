"""Where secrets come from: providers asked in a declared order, each answer told to the audit.

    1  files         `portal_<name>` in PORTAL_SECRETS, then in systemd's CREDENTIALS_DIRECTORY
    2  vault         a KV version 2 secret of OpenBao or HashiCorp Vault, one field a secret
    3  environment   `PORTAL_<NAME>`, only where `environment` is `development`

The first that has a secret gives it. A secret can be read again while the process runs, so that a
changed one needs no restart. This module knows names and providers, never what a secret is for.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

PREFIX = "portal_"
VAULT_TIMEOUT_S = 3
READS_MAX = 1000


class SecretsUnavailable(Exception):
    """A provider could not be asked; what it holds is not known."""


@dataclass(frozen=True)
class SecretRead:
    """One secret was read: what the audit keeps of it. It never holds the value."""

    name: str
    provider: str
    at: datetime


class Provider(Protocol):
    """One place where secrets are kept."""

    @property
    def name(self) -> str:
        """What the audit calls it."""

    def get(self, name: str) -> str | None:
        """The secret, or None if it is not kept here."""


@dataclass(frozen=True)
class Files:
    """A folder of secret files: mounted by the orchestrator, or given by systemd."""

    folder: Path
    name: str = "files"

    def get(self, name: str) -> str | None:
        """The content of the file of that name.

        Raises:
            SecretsUnavailable: It is there and cannot be read.
        """
        try:
            return (self.folder / f"{PREFIX}{name}").read_text().strip()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as failed:
            raise SecretsUnavailable(f"the secret file {PREFIX}{name}: {failed}") from None


@dataclass(frozen=True)
class Environment:
    """The process's environment: everybody who may look at the process can read it."""

    variables: Mapping[str, str]
    name: str = "environment"

    def get(self, name: str) -> str | None:
        """The variable of that name."""
        return self.variables.get(f"{PREFIX}{name}".upper())


@dataclass
class Vault:
    """A KV version 2 secret, read with a token or, logging in anew when needed, an AppRole.

    Args:
        url: Where OpenBao or Vault answers.
        path: `<mount>/<path of the secret>`.
        token_file: A file that holds a token.
        role_file: A file that holds an AppRole's role id and secret id, one a line.
        ca_file: Certificates that the server's own must lead to; the system's if None.
    """

    url: str
    path: str
    token_file: Path | None = None
    role_file: Path | None = None
    ca_file: Path | None = None
    name: str = "vault"
    _client: Any = field(default=None, repr=False)

    def get(self, name: str) -> str | None:
        """The field of that name in the newest version of the secret.

        Raises:
            SecretsUnavailable: The server does not answer, refuses, or gives no text.
        """
        import hvac.exceptions
        import requests

        try:
            value = self._fields().get(name)
        except (hvac.exceptions.VaultError, requests.RequestException, OSError) as failed:
            reason = type(failed).__name__
            raise SecretsUnavailable(f"{self.url} {self.path}: {reason}") from None
        if not isinstance(value, str | None):
            raise SecretsUnavailable(f"{self.url} {self.path}: {name} is not a text")
        return value

    def _fields(self) -> Mapping[str, Any]:
        import hvac.exceptions

        if self._client is None:
            self._client = self._logged_in()
        try:
            return self._read()
        except hvac.exceptions.Forbidden:  # the token has ended
            self._client = self._logged_in()
            return self._read()

    def _read(self) -> Mapping[str, Any]:
        import hvac.exceptions

        mount, _, path = self.path.partition("/")
        try:
            answer = self._client.secrets.kv.v2.read_secret_version(
                path=path, mount_point=mount, raise_on_deleted_version=True
            )
        except hvac.exceptions.InvalidPath:
            return {}
        found: Mapping[str, Any] = answer["data"]["data"]
        return found

    def _logged_in(self) -> Any:
        import hvac

        verify = str(self.ca_file) if self.ca_file else True
        client = hvac.Client(self.url, verify=verify, timeout=VAULT_TIMEOUT_S)
        if self.role_file is not None:
            role_id, secret_id = self.role_file.read_text().split()
            client.auth.approle.login(role_id, secret_id)
        elif self.token_file is not None:
            client.token = self.token_file.read_text().strip()
        return client


class Chain:
    """The providers in their order."""

    def __init__(self, providers: Sequence[Provider]) -> None:
        self.providers = tuple(providers)
        self._reads: deque[SecretRead] = deque(maxlen=READS_MAX)
        self._told: list[Callable[[SecretRead], None]] = []

    def read(self, name: str) -> str | None:
        """The secret, from the first provider that has it; the audit is told.

        Raises:
            SecretsUnavailable: A provider that comes first could not be asked.
        """
        for provider in self.providers:
            value = provider.get(name)
            if value is not None:
                self._reads.append(SecretRead(name, provider.name, datetime.now(UTC)))
                for tell in self._told:
                    tell(self._reads[-1])
                return value
        return None

    def tell(self, audit: Callable[[SecretRead], None]) -> None:
        """From now on this too is told of each read, and now of those before."""
        self._told.append(audit)
        for read in tuple(self._reads):
            audit(read)
