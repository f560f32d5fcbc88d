"""A process that serves a store of its own and is administered, both over HTTP."""

from __future__ import annotations

import http.client
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.in_memory_admin import Told
from tests.support.shapes import ServeProcess

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass
class Administered(ServeProcess):
    """`galerly-cdn serve --store FOLDER`, or the photographs of a folder alone."""

    is_read_only: bool = False

    @classmethod
    def over(cls, store: Path, **settings: object) -> Administered:
        return cls(store / "originals", store / "resized", settings)

    def _start(self) -> None:
        settings = {"workers": 1, **self.settings}
        if self.is_read_only:
            self._serve({"renditions": self.renditions, **settings}, self.folder)
        else:
            self._serve({"store": self.folder.parent, **settings})

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Told:
        """One request to the admin side."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            told = {name.lower(): value for name, value in response.getheaders()}
            return Told(response.status, told, response.read())
        finally:
            connection.close()
