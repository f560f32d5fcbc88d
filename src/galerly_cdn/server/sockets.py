"""Opens the sockets that the server listens on: TCP, unix, or those that a service manager passes."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Self

from galerly_cdn.errors import SettingsError
from galerly_cdn.settings.networks import UNIX

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from types import TracebackType

BACKLOG = 2048
"""Connections that the kernel holds until they are accepted."""
_MODE = 0o666
"""Of a unix socket, as nginx's: its folder decides who reaches it."""


class ListeningSocket:
    """A socket that accepts connections. `file` is the socket file that is removed with it, if it has one."""

    def __init__(self, bound: socket.socket, file: Path | None = None) -> None:
        self._bound = bound
        self._file = file
        self._inode = file.stat().st_ino if file is not None else 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove_file()
        self._bound.close()

    @property
    def is_unix(self) -> bool:
        return self._bound.family == socket.AF_UNIX

    @property
    def host(self) -> str:
        """The address without the port, `unix:/path` for a unix socket."""
        name = self._bound.getsockname()
        if not self.is_unix:
            return str(name[0])
        return UNIX + (name if isinstance(name, str) else "@" + name[1:].decode("utf-8", "replace"))

    @property
    def port(self) -> int:
        """0 for a unix socket."""
        return 0 if self.is_unix else int(self._bound.getsockname()[1])

    def url(self, scheme: str) -> str:
        """The address for people, such as `http://127.0.0.1:8000/` or `unix:/run/public.sock`."""
        if self.is_unix:
            return self.host
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}/"

    async def listen(
        self, loop: asyncio.AbstractEventLoop, protocol: Callable[[], asyncio.Protocol]
    ) -> asyncio.Server:
        """Accept connections on the event loop."""
        create = loop.create_unix_server if self.is_unix else loop.create_server
        server: asyncio.Server = await create(protocol, sock=self._bound, backlog=BACKLOG)
        return server

    def accept(self) -> socket.socket | None:
        """A connection of the backlog; None if there is none."""
        try:
            return self._bound.accept()[0]
        except OSError:  # BlockingIOError, or no file is left for another connection
            return None

    def remove_file(self) -> None:
        """Remove the socket file, unless it is another server's by now: nobody finds the socket any more."""
        with contextlib.suppress(OSError):
            if self._file is not None and self._file.stat().st_ino == self._inode:
                self._file.unlink()
        self._file = None


def bind(host: str, port: int) -> ListeningSocket:
    """Listen on an address, or on a unix socket (`unix:/path`), whose port does not matter.

    Raises `SettingsError`.
    """
    try:
        if host.startswith(UNIX):
            return _bind_unix(host.removeprefix(UNIX))
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return ListeningSocket(socket.create_server(address[:2], family=family, backlog=BACKLOG))
    except (OSError, ValueError) as error:
        number = getattr(error, "errno", None) or 0
        reason = os.strerror(number) if number > 0 else str(error)
        if isinstance(error, socket.gaierror | UnicodeError):
            reason = "the host name is unknown"
        where = host if host.startswith(UNIX) else f"{host}:{port}"
        raise SettingsError([f"host, port: cannot listen on {where}: {reason}"]) from error


def _bind_unix(text: str) -> ListeningSocket:
    """Raises `OSError`; `SettingsError` for a path at which no socket may be made."""
    path = Path(text)
    if not path.is_absolute():
        raise SettingsError([f"host, port: unix:{text}: write the whole path, unix:/run/galerly-cdn.sock"])
    _remove_stale(path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.bind(str(path))
        path.chmod(_MODE)
        bound.listen(BACKLOG)
    except OSError:
        bound.close()
        raise
    return ListeningSocket(bound, path)


def _remove_stale(path: Path) -> None:
    """Remove the socket file of a server that has ended without doing so; nobody listens on it."""
    try:
        is_socket = stat.S_ISSOCK(path.lstat().st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise SettingsError([f"host, port: cannot listen on unix:{path}: it is a file, no socket"])
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.setblocking(False)  # a full backlog is of a server that listens
        with contextlib.suppress(BlockingIOError):
            try:
                client.connect(str(path))
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)
