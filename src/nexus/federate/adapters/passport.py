"""A task's key and certificate, and the TLS that both ends speak with them: each side proves which task it is."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from nexus.federate.core.identity import Authority, Holder
from nexus.federate.protocol import Certificate, CertificateRequest
from nexus.infra.http_client import HttpClient
from nexus.kernel.errors import DeniedError, NexusError, UnavailableError

_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME: an authority lives as long as its run, and clocks are wrong


@dataclass(frozen=True)
class Passport:
    """What a task shows. The key is made anew by every process, and never written anywhere to stay."""

    authority: str
    certificate: str
    key: str = field(repr=False)

    def context(self, *, server: bool) -> ssl.SSLContext:
        """TLS 1.3 in which both sides show a certificate of the run's authority."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        made.minimum_version = ssl.TLSVersion.TLSv1_3
        made.check_hostname = False  # a task has no name but the one in its certificate: `holder` is looked at instead
        made.verify_mode = ssl.CERT_REQUIRED
        made.verify_flags |= _NO_CHECK_TIME
        made.load_verify_locations(cadata=self.authority)
        with tempfile.TemporaryDirectory() as folder:  # the library reads files only
            path = Path(folder) / "own.pem"
            path.touch(mode=0o600)
            path.write_text(self.key + self.certificate)
            made.load_cert_chain(path)
        return made


def holder(connection: ssl.SSLSocket | ssl.SSLObject) -> Holder:
    """Who is at the other end of a connection. Raises UsageError."""
    subject = (connection.getpeercert() or {}).get("subject", ())
    names: list[str] = [pair[1] for part in subject for pair in part if pair[0] == "commonName"]
    return Holder.read(names[0] if names else "")


def passport(env: Mapping[str, str], me: Holder, *, patience: Callable[[NexusError], None]) -> Passport:
    """A new key, certified by the control plane; where there is none, by what the shared token stands for.

    `patience` waits, or raises what it is given, when the control plane does not answer. Raises NexusError.
    """
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    url, token, run = (env.get(f"NEXUS_{name}", "") for name in ("API_URL", "TOKEN", "RUN_ID"))
    if not (url and run):
        own = Authority(token.encode())
        return Passport(own.certificate, own.certify(public, me), private)
    with closing(HttpClient(url, token, timeout_s=10.0)) as http:
        while True:
            try:
                said = http.post(f"/v1/runs/{run}/certificates", Certificate, CertificateRequest(public_key=public))
            except UnavailableError as error:
                patience(error)
                continue
            if Holder.read(said.holder) != me:
                raise DeniedError(
                    f"the control plane says that this task is {said.holder}, not {me}",
                    hint="NEXUS_ROLE, NEXUS_INDEX and NEXUS_TOKEN must be of one task.",
                )
            return Passport(said.authority, said.certificate, private)
