"""Loads the TLS certificate and its key, and reloads them after their files were renewed.

The files' status is read once per second, so that programs that renew them (certbot, acme.sh, a mounted
secret) need no signal and no restart. While the two files do not belong together, because only one of them
was renewed yet, the previous certificate stays in use.
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
    """A certificate with its key. New connections use `context`. Raises `SettingsError`."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = (certificate, key)
        self._stamps = _file_stamps(self._files)
        self.context = _load_context(certificate, key)

    def refresh(self) -> None:
        """Reload the files if they have changed. If they are unfit, log why, once, and keep the previous."""
        stamps = _file_stamps(self._files)
        if stamps == self._stamps:
            return
        self._stamps = stamps
        try:
            self.context = _load_context(*self._files)
        except SettingsError as error:
            _log.warning("The previous certificate stays in use, because the new one is unfit: %s", error)
        else:
            _log.warning("The renewed certificate %s is in use.", self._files[0])


def _load_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """A context for HTTP/1.1 over TLS 1.2 or newer, with Python's default ciphers."""
    chain = _read("tls_certificate", certificate)
    _read("tls_key", key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # a client could exhaust the CPU by renegotiating
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
    _warn_if_expired(certificate, chain)
    return context


def _read(setting: str, file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise SettingsError([f"{setting}: cannot read {file}: {error.strerror}"]) from error


def _warn_if_expired(certificate: Path, chain: bytes) -> None:
    """Log a warning only: to refuse an expired certificate would turn a warning into an outage."""
    try:
        expires = x509.load_pem_x509_certificate(chain).not_valid_after_utc
    except ValueError:  # OpenSSL serves certificates that this parser refuses
        return
    if expires < dt.datetime.now(dt.UTC):
        _log.warning("tls_certificate: %s has expired on %s", certificate, expires.date())


def _file_stamps(files: tuple[Path, ...]) -> list[tuple[int, int, int] | None]:
    """Inode, mtime and ctime (ns) of each file, which change when it is written or replaced.

    None stands for a file whose status cannot be read.
    """
    stamps: list[tuple[int, int, int] | None] = []
    for file in files:
        try:
            status = file.stat()
        except OSError:
            stamps.append(None)
        else:
            stamps.append((status.st_ino, status.st_mtime_ns, status.st_ctime_ns))
    return stamps
