"""Certificates of destinations and our own, and what went wrong where the two sides do not agree."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tachograph.errors import ConfigError

_PLAIN: Final = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
# By OpenSSL's X509_V_ERR_*: not yet valid, expired, another name, another address.
_HINTS: Final = {
    9: "check the clocks of both sides",
    10: "it has to be renewed there",
    62: "use a name that the certificate is for",
    64: "use an address that the certificate is for",
}
LOOK_S: Final = 3.0  # for a second look at what went wrong


@dataclass(frozen=True, slots=True)
class Tls:
    """Paths of PEM files, "" = the system's authorities, and no certificate of our own."""

    authority: str = ""
    certificate: str = ""
    key: str = ""

    def context(self) -> ssl.SSLContext:
        """What connections are made with; raises ConfigError where a file is not what it should be."""
        for path in (self.authority, self.certificate, self.key):
            if path and not Path(path).is_file():
                raise ConfigError(f"certificate: got {path}, which is no file; expected a PEM file", "check the path")
        if self.key and not self.certificate:
            what = f"client key: got {self.key} and no client certificate; expected both"
            raise ConfigError(what, "name the certificate beside its key")
        try:
            context = ssl.create_default_context(cafile=self.authority or None)
        except (OSError, ssl.SSLError) as error:
            raise _unreadable(self.authority, error, "the certificates of authorities") from None
        if self.certificate:
            try:
                # Without a password here, OpenSSL would ask for one on the terminal and wait.
                context.load_cert_chain(self.certificate, self.key or None, password=lambda: "")
            except (OSError, ssl.SSLError) as error:
                pair = f"{self.certificate} and {self.key}" if self.key else self.certificate
                raise _unreadable(pair, error, "a certificate and its key without a password") from None
        return context

    def authorities(self) -> bytes | None:
        """Whom to trust, for libraries that bring a list of their own; None = that one, as there is no other."""
        path = self.authority or ssl.get_default_verify_paths().cafile
        return Path(path).read_bytes() if path else None


def explained(error: ssl.SSLError) -> tuple[str, str]:
    """Why there is no secure connection, and what to try."""
    reason = str(error.reason or error)
    if isinstance(error, ssl.SSLCertVerificationError):
        hint = _HINTS.get(error.verify_code, "name the authority that signed it: a PEM file")
        return f"its certificate is not trusted: {error.verify_message.rstrip('.')}", hint
    if any(word in reason for word in _PLAIN):
        return "it does not speak TLS", "say http:// where there is no TLS"
    if "CERTIFICATE_REQUIRED" in reason:
        return "it asks for a client certificate", "name ours and its key: two PEM files"
    if "ALERT" in reason:
        said = reason.partition("ALERT_")[2].replace("_", " ").lower()
        return f"it ended the handshake: {said}", "check the client certificate and the authority that signed it"
    return f"no secure connection: {reason.replace('_', ' ').lower()}", "check the address and the certificates"


def trouble(
    host: str, port: int, tls: Tls | None, left_s: float, protocols: Sequence[str] = ()
) -> tuple[str, str] | None:
    """Whether a connection that broke is about TLS, as another one shows that asks for nothing: why, and what to try.

    `tls` is None where no TLS was spoken. Who wants a certificate of ours says so after the handshake, and while
    something is being sent that goes under.
    """
    wait_s = min(left_s, LOOK_S) / 3
    context = tls.context() if tls else ssl._create_unverified_context()  # nothing is sent there, nor believed
    if protocols:
        context.set_alpn_protocols(list(protocols))
    try:
        with (
            socket.create_connection((host, port), wait_s) as plain,
            context.wrap_socket(plain, server_hostname=host) as made,
        ):
            if tls is None:
                return "it speaks TLS", "say https://"
            return _after(made, tls)
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
        return None
    except ssl.SSLError as error:
        return explained(error) if tls else None
    except (OSError, UnicodeError):
        return None


def _after(made: ssl.SSLSocket, tls: Tls) -> tuple[str, str] | None:
    """What the other side does after the handshake: it should wait for a request."""
    hint = "check the client certificate" if tls.certificate else "it may ask for a client certificate"
    closed = "it closed the connection after the handshake", hint
    try:
        made.recv(1)
    except TimeoutError:
        return None
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError):
        return closed
    return closed


def _unreadable(path: str, error: OSError, expected: str) -> ConfigError:
    said = error.strerror if not isinstance(error, ssl.SSLError) else (error.reason or "no PEM file").replace("_", " ")
    said = str(said or error).lower()
    return ConfigError(f"certificate: {path} cannot be read: {said}; expected {expected}", "check the file")
