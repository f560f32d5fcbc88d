"""A process that serves a store of its own and is administered, both over HTTP."""

from __future__ import annotations

import http.client
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.admins import Told
from tests.shapes import OneMachine

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass
class Administered(OneMachine):
    """`galerly-cdn serve --store FOLDER --admin-port 0`, or the photographs of a folder alone."""

    admin_address: str = ""
    is_read_only: bool = False

    @classmethod
    def over(cls, store: Path, **settings: object) -> Administered:
        return cls(store / "originals", store / "resized", settings)

    def _start(self) -> None:
        settings = {"workers": 1, "admin_port": 0, **self.settings}
        if self.is_read_only:
            self._serve({"renditions": self.renditions, **settings}, self.folder)
        else:
            self._serve({"store": self.folder.parent, **settings})
        assert self.process.stdout
        line = self.process.stdout.readline().decode()
        self.admin_address = line.rpartition(" ")[2].strip()

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Told:
        """One request to the admin side."""
        connection = http.client.HTTPConnection(urlsplit(self.admin_address).netloc, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            told = {name.lower(): value for name, value in response.getheaders()}
            return Told(response.status, told, response.read())
        finally:
            connection.close()
