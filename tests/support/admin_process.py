"""Starts `galerly-cdn serve` with its admin listener, and sends the admin API requests over HTTP."""

from __future__ import annotations

import http.client
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.in_memory_admin import AdminResponse
from tests.support.shapes import ServeProcess

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass
class AdminServer(ServeProcess):
    """`galerly-cdn serve --store FOLDER`; with `is_read_only`, `galerly-cdn serve FOLDER`."""

    is_read_only: bool = False

    @classmethod
    def with_store(cls, store: Path, **settings: object) -> AdminServer:
        """A server of the store in the folder `store`."""
        return cls(store / "originals", store / "resized", settings)

    def _start(self) -> None:
        settings = {"workers": 1, **self.settings}
        if self.is_read_only:
            self._serve({"renditions": self.renditions, **settings}, self.folder)
        else:
            self._serve({"store": self.folder.parent, **settings})

    def request_admin(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: dict[str, str] | None = None,
    ) -> AdminResponse:
        """Send a request to the admin API."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            response_headers = {name.lower(): value for name, value in response.getheaders()}
            return AdminResponse(response.status, response_headers, response.read())
        finally:
            connection.close()
