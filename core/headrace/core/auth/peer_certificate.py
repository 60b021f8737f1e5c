"""A client's certificate, as far as login looks at it: who it was issued to.

The TLS transport fills it once the handshake has verified the certificate; login reads it. Nothing here knows how
a certificate is encoded.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """A verified client certificate.

    `subject` holds the relative distinguished names in the order of the certificate; each is the set of its
    attributes, mostly one: `((("O", "Synadia"),), (("CN", "alice"),))`. Attribute types are the short names of
    RFC 4514 (CN, L, ST, O, OU, C, STREET, DC, UID), else the dotted object identifier. `der` is the whole
    certificate, as it came; `chain` those that the peer sent or that verified it, leaf first, where they are known.
    """

    subject: tuple[tuple[tuple[str, str], ...], ...] = ()
    dns_names: tuple[str, ...] = ()
    email_addresses: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()
    der: bytes = b""
    chain: tuple[bytes, ...] = ()
    tls_version: str = ""
    cipher: str = ""
