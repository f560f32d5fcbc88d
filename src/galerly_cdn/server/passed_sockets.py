"""Takes over the sockets on which a service manager, such as systemd, listens for the server."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from galerly_cdn.errors import SettingsError
from galerly_cdn.http.urls import is_loopback
from galerly_cdn.serialization import replaced
from galerly_cdn.server.sockets import ListeningSocket
from galerly_cdn.settings.service_manager import ADMIN, PUBLIC

if TYPE_CHECKING:
    from collections.abc import Iterable

    from galerly_cdn.settings.table import Settings


class PassedSockets:
    """The passed sockets of each listener; none of a listener that binds its own."""

    def __init__(self, named: Iterable[tuple[str, int]]) -> None:
        """`named`: name, `public` or `admin`, and descriptor of each. Raises `SettingsError`."""
        adopted = [(name, adopt(name, fd)) for name, fd in named]
        self.public = tuple(one for name, one in adopted if name == PUBLIC)
        self.admin = tuple(one for name, one in adopted if name == ADMIN)

    def applied_to(self, settings: Settings) -> Settings:
        """The settings with the sockets' addresses, which decide what is allowed only on loopback."""
        if self.public:
            one = _widest(self.public)
            settings = replaced(settings, host=one.host, port=one.port)
        if self.admin:
            one = _widest(self.admin)
            settings = replaced(settings, admin_host=one.host, admin_port=one.port)
        return settings


def _widest(sockets: tuple[ListeningSocket, ...]) -> ListeningSocket:
    """The first socket that others than this machine reach, if there is one."""
    return next((one for one in sockets if not is_loopback(one.host)), sockets[0])


def adopt(name: str, fd: int) -> ListeningSocket:
    """The socket that a service manager listens on and passes. Raises `SettingsError` for anything else."""
    try:
        os.set_inheritable(fd, False)  # workers must not hold it
        passed = socket.socket(fileno=fd)
    except OSError as error:
        raise SettingsError([f"LISTEN_FDS: descriptor {fd} ({name}) is no socket"]) from error
    if passed.type != socket.SOCK_STREAM or not passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        passed.detach()
        raise SettingsError([f"LISTEN_FDS: descriptor {fd} ({name}) is no listening stream socket"])
    return ListeningSocket(passed)
