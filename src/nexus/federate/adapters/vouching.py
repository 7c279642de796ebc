"""Whose signatures are whose in a secure sum: the certificates by which the run's authority vouches for each host.

The server passes certificates on, and cannot make one: in a run that `nexus launch` started the authority is the
control plane's. Tasks that were started by hand share a token, and whoever has it, the server too, could make any.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import NameOID

from nexus.federate.adapters.passport import Passport
from nexus.federate.core.identity import Holder, Roll
from nexus.kernel.errors import DeniedError, UsageError


class Vouching:
    """This host's own key, and what it believes of others. Raises UsageError for a passport of another kind."""

    def __init__(self, passport: Passport, roll: Roll) -> None:
        key = load_pem_private_key(passport.key.encode(), None)
        if not isinstance(key, Ed25519PrivateKey):
            raise UsageError("this task's key signs nothing here", hint="It must be an Ed25519 key.")
        self.private = key.private_bytes_raw()
        self.voucher = passport.certificate
        self._authority = x509.load_pem_x509_certificate(passport.authority.encode())
        self._roll = roll

    def known(self, client: int, voucher: str) -> bytes:
        """The public key of the host that speaks for `client`. Raises DeniedError if that is not what it says."""
        try:
            certificate = x509.load_pem_x509_certificate(voucher.encode())
            certificate.verify_directly_issued_by(self._authority)
            holder = Holder.read(str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value))
        except (ValueError, TypeError, IndexError, InvalidSignature, UsageError) as error:
            raise DeniedError(f"nobody vouches for client {client}", hint="Do not trust this server.") from error
        speaks_for, key = self._roll.speaks_for(self._roll.host(holder)), certificate.public_key()
        if speaks_for is None or client not in speaks_for or not isinstance(key, Ed25519PublicKey):
            raise DeniedError(f"{holder} does not speak for client {client}", hint="Do not trust this server.")
        return key.public_bytes_raw()
