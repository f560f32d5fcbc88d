"""Which certificate do we show? The one in the files, also after they were renewed.

The files are looked at once per second, by `stat`: whoever renews them (certbot, acme.sh, a mounted secret)
has no signal to send and nothing to restart. Files that do not belong together, because one of the two
is still the old one, change nothing until they do.
"""

from __future__ import annotations

import datetime as dt
import logging
import ssl
from typing import TYPE_CHECKING

from cryptography import x509

from galerly_cdn.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

_log = logging.getLogger(__name__)


class Certificate:
    """A certificate with its key. `context` is for new connections. Raises `SettingsError`."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = (certificate, key)
        self._seen = _stamps(self._files)
        self.context = _context(certificate, key)

    def refresh(self) -> None:
        """Take the files' content if they have changed and fit; else say why not, once, and keep the old."""
        stamps = _stamps(self._files)
        if stamps == self._seen:
            return
        self._seen = stamps
        try:
            self.context = _context(*self._files)
        except SettingsError as error:
            _log.warning("the old certificate is kept: %s", error)
        else:
            _log.warning("a new certificate is in use: %s", self._files[0])


def _context(certificate: Path, key: Path) -> ssl.SSLContext:
    """HTTP/1.1 over TLS 1.2 or newer, with the ciphers Python chooses."""
    chain = _read("tls_certificate", certificate)
    _read("tls_key", key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # a client's means to make us work
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise SettingsError([f"tls_key: {key} is not the key of {certificate}"]) from error
        files = f"{certificate} and {key}"
        raise SettingsError(
            [f"tls_certificate, tls_key: {files} are no certificate and unencrypted key in PEM"]
        ) from error
    _warn_of_end(certificate, chain)
    return context


def _read(setting: str, file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise SettingsError([f"{setting}: cannot read {file}: {error.strerror}"]) from error


def _warn_of_end(certificate: Path, chain: bytes) -> None:
    """An expired certificate is served all the same: refusing would turn a warning into an outage."""
    try:
        until = x509.load_pem_x509_certificate(chain).not_valid_after_utc
    except ValueError:  # a certificate that OpenSSL shows, though it is odd
        return
    if until < dt.datetime.now(dt.UTC):
        _log.warning("tls_certificate: %s has expired on %s", certificate, until.date())


def _stamps(files: tuple[Path, ...]) -> list[tuple[int, int, int] | None]:
    """What changes when a file is written or put in another's place; None: it cannot be looked at."""
    stamps: list[tuple[int, int, int] | None] = []
    for file in files:
        try:
            status = file.stat()
        except OSError:
            stamps.append(None)
        else:
            stamps.append((status.st_ino, status.st_mtime_ns, status.st_ctime_ns))
    return stamps
