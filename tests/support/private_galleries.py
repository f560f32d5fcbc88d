"""Private galleries for the tests of CloudFront's shape."""

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


class Private:
    """A distribution with private galleries, and those who may sign for it."""

    def __init__(self, folder: Path, prefix: str = "clients", *, ecdsa: bool = True) -> None:
        _, _, secret = keys.create_key_pair(folder, ecdsa=ecdsa)
        self._pem = secret.read_bytes()
        secret.unlink()
        self.settings = Settings(private_prefixes=(prefix,), public_keys=str(folder))
        self.text = template.render(self.settings)
        (key_id,) = local_cloudfront.planned(self.text).distribution.behaviors[0].keys or {}
        self.signer = Signer(key_id, self._pem)

    def of_key(self, key_id: str) -> Signer:
        return Signer(key_id, self._pem)

    def signed(self, path: str, expires_s: int) -> str:
        """The path with a signature, for the host of the tests."""
        address = f"https://{local_cloudfront.HOST}{path}"
        grant = Policy(resource=address, expires_s=expires_s)
        return self.signer.url(address, grant).removeprefix(f"https://{local_cloudfront.HOST}")
