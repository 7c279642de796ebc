"""Who is who in a run: an authority of the run's own certifies the key that each task has made for itself.

The control plane holds the authority of a run that it started: a task proves who it is with its token, and the role and
index in its certificate are the control plane's words, not its own. Tasks that were started by hand share a token, and
derive one authority from it: whoever has that token is believed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from cryptography.x509.oid import NameOID

from nexus.kernel.errors import DeniedError, UsageError

SERVER, CLIENT = "server", "client"
_NAME = re.compile(r"([a-z0-9][a-z0-9._-]*)/(\d{1,6})")
# Dates are not looked at: an authority lives as long as its run, and a silo's clock may be wrong.
_SINCE, _UNTIL = datetime(2020, 1, 1, tzinfo=UTC), datetime(2120, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose certificate it is: a task of the run, by role and index."""

    role: str
    index: int

    def __str__(self) -> str:
        return f"{self.role}/{self.index}"

    @classmethod
    def read(cls, name: str) -> Holder:
        """The holder whom a certificate names. Raises UsageError."""
        found = _NAME.fullmatch(name)
        if found is None:
            raise UsageError(f"{name!r} names no task")
        return cls(found[1], int(found[2]))


class Authority:
    """The certificate authority of one run. The same secret gives the same authority, to the bit."""

    def __init__(self, secret: bytes) -> None:
        seed = HKDF(SHA256(), 32, salt=None, info=b"nexus.federate.authority").derive(secret)
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self._name = _named(f"run {sha256(_raw(self._key.public_key())).hexdigest()[:16]}")
        self._limits = x509.BasicConstraints(ca=True, path_length=0)
        self.certificate = self._issue(self._name, self._key.public_key(), self._limits)

    def certify(self, public_key: str, holder: Holder) -> str:
        """A certificate, as PEM, of `holder` for the Ed25519 `public_key`, as PEM. Raises UsageError."""
        try:
            key = load_pem_public_key(public_key.encode())
        except (ValueError, UnsupportedAlgorithm) as error:
            raise UsageError(f"this is no public key: {error}", hint="Send an Ed25519 key as PEM.") from error
        if not isinstance(key, Ed25519PublicKey):
            raise UsageError("the key is of another kind", hint="Send an Ed25519 key as PEM.")
        return self._issue(_named(str(holder)), key, x509.BasicConstraints(ca=False, path_length=None))

    def _issue(self, subject: x509.Name, key: Ed25519PublicKey, limits: x509.BasicConstraints) -> str:
        serial = int.from_bytes(sha256(_raw(key) + subject.public_bytes()).digest()[:16], "big") >> 1 or 1
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key)
        builder = builder.serial_number(serial).not_valid_before(_SINCE).not_valid_after(_UNTIL)
        builder = builder.add_extension(limits, critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        own = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(own, critical=False)
        return builder.sign(self._key, None).public_bytes(Encoding.PEM).decode()


@dataclass(frozen=True, slots=True)
class Roll:
    """Who may take part: sites by the names of their roles, or so many client tasks; the rest are strangers."""

    clients: int  # of the task
    hosts: int = 0  # client tasks; 0: nobody has said how many
    sites: tuple[str, ...] = ()

    def host(self, holder: Holder) -> int:
        """Which host the holder of a certificate is. Raises DeniedError."""
        if self.sites and holder.index == 0 and holder.role in self.sites:
            return self.sites.index(holder.role)
        if not self.sites and holder.role == CLIENT and (not self.hosts or holder.index < self.hosts):
            return holder.index
        raise DeniedError(
            f"{holder} is not on the list of those who may take part", hint="The job file's `federate.clients` is it."
        )

    def speaks_for(self, host: int) -> tuple[int, ...] | None:
        """The clients that are the host's own; None: whoever comes first may claim them."""
        hosts = len(self.sites) or self.hosts
        return dealt(self.clients, host, hosts) if hosts else None


def dealt(clients: int, index: int, hosts: int) -> tuple[int, ...]:
    """The task's clients for whom client task `index` of `hosts` speaks."""
    return tuple(range(index, clients, hosts))


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _raw(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)
