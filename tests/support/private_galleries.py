"""Builds a template with a private gallery, and signers for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from galerly_cdn.access import keys
from galerly_cdn.access.policy import Policy
from galerly_cdn.access.signing import Signer
from galerly_cdn.aws.deploy import template
from galerly_cdn.settings.table import Settings
from tests.support import local_cloudfront

if TYPE_CHECKING:
    from pathlib import Path


class PrivateGallery:
    """A template with a private gallery, and a signer with its key."""

    def __init__(self, folder: Path, prefix: str = "clients", *, ecdsa: bool = True) -> None:
        _, _, private_key = keys.create_key_pair(folder, ecdsa=ecdsa)
        self._pem = private_key.read_bytes()
        private_key.unlink()
        self.settings = Settings(private_prefixes=(prefix,), public_keys=str(folder))
        self.text = template.render(self.settings)
        (key_id,) = local_cloudfront.read_plan(self.text).distribution.behaviors[0].public_keys or {}
        self.signer = Signer(key_id, self._pem)

    def signer_named(self, key_id: str) -> Signer:
        """A signer with the same key under another ID."""
        return Signer(key_id, self._pem)

    def signed(self, path: str, expires_s: int) -> str:
        """The path with a signature, for the host of the tests."""
        url = f"https://{local_cloudfront.HOST}{path}"
        grant = Policy(resource=url, expires_s=expires_s)
        return self.signer.url(url, grant).removeprefix(f"https://{local_cloudfront.HOST}")
