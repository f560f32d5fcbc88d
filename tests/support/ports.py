"""Chooses ports for servers that are started again at the same address."""

from __future__ import annotations

import random
import socket

_FIRST, _END = 20_000, 32_000
"""Below the ports that Linux gives to outgoing connections: nothing takes one while its server is stopped."""
_given: set[int] = set()


def fixed_port() -> int:
    """A port of this machine on which nothing listens, and which this process has not given before."""
    while True:
        port = random.SystemRandom().randrange(_FIRST, _END)
        if port in _given:
            continue
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        _given.add(port)
        return port
