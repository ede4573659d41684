"""The certificate authority of one local deployment, for HTTPS servers on the loopback interface."""

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Self

from .files import write_private_file

if TYPE_CHECKING:
    import trustme

FOLDER = "authority"
_CERTIFICATE, _KEY = "certificate.pem", "key.pem"


class LocalAuthority:
    """Issues certificates to the receivers of webhooks. The local stack trusts them."""

    def __init__(self, authority: "trustme.CA") -> None:
        self._authority = authority

    @classmethod
    def create(cls) -> Self:
        """Return a new authority that is stored nowhere."""
        import trustme  # noqa: PLC0415  # imports a cryptography library that most commands don't need

        return cls(trustme.CA(organization_name="Waterhook", organization_unit_name="local authority"))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return the authority in a folder. Raises OSError if a file is missing, ValueError if it is invalid."""
        import trustme  # noqa: PLC0415  # see above

        certificate, key = (folder / _CERTIFICATE).read_bytes(), (folder / _KEY).read_bytes()
        return cls(trustme.CA.from_pem(certificate, key))

    @classmethod
    def load_or_create(cls, folder: Path) -> Self:
        """Return the authority in a folder. A missing or damaged one is replaced.

        Only the user can read the folder. One process at a time may call this for a folder.
        """
        try:
            return cls.load(folder)
        except (OSError, ValueError):
            authority = cls.create()
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
            # Without its certificate, a key counts as missing, so a crash leaves no pair that does not match.
            (folder / _CERTIFICATE).unlink(missing_ok=True)
            key = authority._authority.private_key_pem.bytes()  # noqa: SLF001  # an object of this class
            write_private_file(folder / _KEY, key)
            write_private_file(folder / _CERTIFICATE, authority.certificate_pem.encode())
            return authority

    @property
    def certificate_pem(self) -> str:
        """The certificate of the authority, as clients that trust it need it."""
        return self._authority.cert_pem.bytes().decode()

    def server_context(self, *names: str) -> ssl.SSLContext:
        """Return the TLS context of a server, with a new certificate for these host names and IP addresses."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(*names).configure_cert(context)
        return context
