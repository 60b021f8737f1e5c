"""Certificates for tests, made when they are needed: an authority, and leaves that it signs."""

import datetime as dt
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Leaf:
    """A certificate and its key, as files."""

    certificate: str
    key: str

    def der(self) -> bytes:
        return ssl.PEM_cert_to_DER_cert(Path(self.certificate).read_text())


class Authority:
    """An authority in a folder; `file` is its own certificate."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Authority {name}")])
        certificate = (
            self._builder(self._subject, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        path = folder / f"{name}.pem"
        path.write_bytes(certificate.public_bytes(Encoding.PEM))
        self.file = str(path)

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _DAY)
            .not_valid_after(now + 30 * _DAY)
        )

    def leaf(self, name: str, *, dns: tuple[str, ...] = ("localhost",), email: str = "") -> Leaf:
        """Sign a certificate for servers and clients, for these names and 127.0.0.1."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Headrace"),
                x509.NameAttribute(NameOID.COMMON_NAME, name),
            ]
        )
        names: list[x509.GeneralName] = [x509.DNSName(each) for each in dns]
        names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        if email:
            names.append(x509.RFC822Name(email))
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        certificate = (
            self._builder(subject, key)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(usage, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        paths = (self._folder / f"{name}.crt", self._folder / f"{name}.key")
        paths[0].write_bytes(certificate.public_bytes(Encoding.PEM))
        paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return Leaf(str(paths[0]), str(paths[1]))

    def client_context(self, leaf: Leaf | None = None) -> ssl.SSLContext:
        """Give what a client needs that trusts this authority."""
        context = ssl.create_default_context(cafile=self.file)
        if leaf is not None:
            context.load_cert_chain(leaf.certificate, leaf.key)
        return context
