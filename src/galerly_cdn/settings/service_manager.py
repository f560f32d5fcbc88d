"""Reads what a service manager, such as systemd, tells a service in environment variables. Pure.

(sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3).)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from galerly_cdn.errors import SettingsError
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLES = (
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
)
PUBLIC, ADMIN = "public", "admin"
"""The names of passed sockets: `FileDescriptorName=` of the socket unit."""
_FIRST_FD = 3


class ServiceManager(Value, frozen=True):
    """What the service manager asks for and passes; all empty where there is none."""

    notify_socket: str = ""
    """Where it is told of the service's state: a path, or `@` and a name in the abstract namespace."""
    watchdog_s: float = 0.0
    """The service is restarted if it is silent for so long; 0 is never."""
    sockets: tuple[tuple[str, int], ...] = ()
    """Name, `public` or `admin`, and file descriptor of each socket on which it listens already."""


def parse_service_manager(variables: Mapping[str, str], pid: int) -> ServiceManager:
    """Read the variables of the process `pid`; those that are for another process do not count.

    Raises `SettingsError` for variables that no service manager sets, and for sockets with other names.
    """
    try:
        watchdog_us = int(variables.get("WATCHDOG_USEC") or 0)
        is_watched = int(variables.get("WATCHDOG_PID") or pid) == pid
        count = int(variables.get("LISTEN_FDS") or 0)
        is_passed_to = int(variables.get("LISTEN_PID") or 0) == pid
    except ValueError as error:
        raise SettingsError([f"WATCHDOG_USEC, WATCHDOG_PID, LISTEN_FDS, LISTEN_PID: {error}"]) from error
    names = variables.get("LISTEN_FDNAMES", "").split(":") if variables.get("LISTEN_FDNAMES") else []
    return ServiceManager(
        variables.get("NOTIFY_SOCKET", ""),
        watchdog_us / 1e6 if is_watched else 0.0,
        _named(names, count) if is_passed_to else (),
    )


def _named(names: list[str], count: int) -> tuple[tuple[str, int], ...]:
    """The sockets by name. One alone that has no name of ours is public: its name is then the unit's."""
    if count == 1 and names not in ([PUBLIC], [ADMIN]):
        names = [PUBLIC]
    if len(names) != count or not {*names} <= {PUBLIC, ADMIN}:
        problem = (
            f"{count} sockets are passed with the names {':'.join(names)!r} (LISTEN_FDNAMES): name each "
            "`public` or `admin`, by FileDescriptorName= in its socket unit"
        )
        raise SettingsError([problem])
    return tuple((name, _FIRST_FD + at) for at, name in enumerate(names))
