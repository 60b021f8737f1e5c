"""What a listener needs to speak TLS, made of options: `ssl` contexts, one for each certificate.

`build` reads the files and refuses what cannot be used, before anything listens. Which certificate a client is
shown goes by the name it asks for (SNI); the first one serves everybody else. What Python's `ssl` cannot express is
refused where the options are read (`core/config/tls.py`); names of suites and curves are translated here.
"""

import contextlib
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from headrace.core.auth.peer_certificate import PeerCertificate
from headrace.core.errors import ConfigError
from headrace.core.options import TlsOptions

if TYPE_CHECKING:
    from cryptography import x509

SUITES: Final[dict[str, str]] = {
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
}
"""Suites of TLS 1.2 that can be chosen: registered name to OpenSSL's."""

SUITES_1_3: Final = frozenset(
    {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}
)
"""Suites of TLS 1.3. They may be named, and are all on, as in the reference."""

INSECURE_SUITES: Final = frozenset(name for name in SUITES if name.startswith("TLS_RSA_"))
"""They need `allow_insecure_cipher_suites`."""

CURVES: Final[dict[str, str]] = {
    "curvep256": "prime256v1",
    "curvep384": "secp384r1",
    "curvep521": "secp521r1",
}
"""Curves that can be chosen, in lower case, to OpenSSL's names."""

_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_REGISTERED: Final = {openssl: registered for registered, openssl in SUITES.items()}


class TlsUnusable(ConfigError):
    """TLS cannot be spoken with these options; says why."""


@dataclass(frozen=True, slots=True)
class TlsContexts:
    """The context that connections begin with; it turns to another by the name that a client asks for."""

    default: ssl.SSLContext


def build(options: TlsOptions) -> TlsContexts:
    """Read certificates and keys; raises TlsUnusable."""
    if not options.certificates:
        raise TlsUnusable("TLS Server certificate must be present and valid")
    contexts = [_context(options, *files) for files in options.certificates]
    if len(contexts) > 1:
        _choose_by_name(contexts, [certificate for certificate, _ in options.certificates])
    return TlsContexts(contexts[0])


def registered_name(openssl: str) -> str:
    """Give a suite's registered name."""
    return _REGISTERED.get(openssl, openssl)


def read_peer(der: bytes, *, tls_version: str = "", cipher: str = "") -> PeerCertificate:
    """Read what login looks at in a certificate."""
    from cryptography import x509  # noqa: PLC0415  (loaded where clients have certificates)

    certificate = x509.load_der_x509_certificate(der)
    names = _alternative_names(certificate)
    return PeerCertificate(
        subject=tuple(
            tuple((attribute.rfc4514_attribute_name, str(attribute.value)) for attribute in rdn)
            for rdn in certificate.subject.rdns
        ),
        dns_names=tuple(names.get_values_for_type(x509.DNSName)) if names else (),
        email_addresses=tuple(names.get_values_for_type(x509.RFC822Name)) if names else (),
        uris=tuple(names.get_values_for_type(x509.UniformResourceIdentifier)) if names else (),
        der=der,
        chain=(der,),
        tls_version=tls_version,
        cipher=cipher,
    )


def key_digest(der: bytes) -> str:
    """Give the SHA-256 of a certificate's public key (its SubjectPublicKeyInfo), in hexadecimal."""
    import hashlib  # noqa: PLC0415  (only where certificates are pinned)

    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415

    key = x509.load_der_x509_certificate(der).public_key()
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def subject_of(der: bytes) -> str:
    """Give a certificate's subject as RFC 4514 writes it."""
    from cryptography import x509  # noqa: PLC0415  (only where certificates are shown)

    return x509.load_der_x509_certificate(der).subject.rfc4514_string()


def _context(options: TlsOptions, certificate_file: str, key_file: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[options.min_version]
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    try:
        context.load_cert_chain(certificate_file, key_file, password=_refuse_password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise TlsUnusable(
            f"error parsing X509 certificate/key pair: {_said(error)} ({certificate_file}, {key_file})"
        ) from error
    _set_suites(context, options.cipher_suites)
    _set_curves(context, options.curves)
    if options.verify:
        context.verify_mode = ssl.CERT_REQUIRED
        # A certificate of the file is trusted whether or not it is a root, as in the reference.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        _load_authorities(context, options.ca_file)
    elif options.ca_file:
        _load_authorities(context, options.ca_file)
    return context


def _refuse_password() -> str:
    raise ValueError("the key is encrypted; give one that is not")


def _load_authorities(context: ssl.SSLContext, ca_file: str) -> None:
    if not ca_file:
        context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
        return
    try:
        context.load_verify_locations(ca_file)
    except ssl.SSLError as error:
        raise TlsUnusable(f"failed to parse root ca certificate {ca_file}") from error
    except OSError as error:
        raise TlsUnusable(f"ca_file {ca_file}: {_said(error)}") from error


def _set_suites(context: ssl.SSLContext, names: tuple[str, ...]) -> None:
    if not names:
        return
    chosen = [SUITES[name] for name in names if name in SUITES]
    if not chosen:  # suites of 1.3 alone
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        return
    try:
        context.set_ciphers(":".join(chosen))
    except ssl.SSLError as error:
        raise TlsUnusable(f"this OpenSSL has none of the cipher_suites {', '.join(names)}") from error


def _set_curves(context: ssl.SSLContext, curves: tuple[str, ...]) -> None:
    for curve in curves:
        try:
            context.set_ecdh_curve(curve)
        except (ssl.SSLError, ValueError) as error:
            raise TlsUnusable(f"this OpenSSL does not have the curve {curve}") from error


def _choose_by_name(contexts: list[ssl.SSLContext], files: list[str]) -> None:
    """Let the first context turn to the one whose certificate has the name that the client asks for."""
    named = [(_names_in(file), context) for file, context in zip(files, contexts, strict=True)]

    def choose(connection: ssl.SSLObject, server_name: str | None, _context: ssl.SSLContext) -> None:
        for names, context in named:
            if server_name is not None and _is_covered(server_name.lower(), names):
                connection.context = context
                return

    contexts[0].sni_callback = choose


def _names_in(file: str) -> frozenset[str]:
    from cryptography import x509  # noqa: PLC0415  (only where there are several certificates)

    try:
        with open(file, "rb") as opened:
            certificate = x509.load_pem_x509_certificate(opened.read())
    except (OSError, ValueError) as error:
        raise TlsUnusable(f"error parsing certificate: {file}") from error
    names = _alternative_names(certificate)
    return (
        frozenset(name.lower() for name in names.get_values_for_type(x509.DNSName)) if names else frozenset()
    )


def _alternative_names(certificate: "x509.Certificate") -> "x509.SubjectAlternativeName | None":
    from cryptography import x509  # noqa: PLC0415  (loaded where certificates are read)

    with contextlib.suppress(x509.ExtensionNotFound, ValueError):
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return None


def _is_covered(name: str, names: frozenset[str]) -> bool:
    return name in names or "*." + name.partition(".")[2] in names


def _said(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not in PEM").lower().replace("_", " ")
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error)
