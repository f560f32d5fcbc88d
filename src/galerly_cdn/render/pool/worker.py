"""Loads libvips, then runs a worker process: restricts itself, and renders the server's requests one by one.

It blocks on one socket and ends when the server closes it. It writes nothing to stdout or to files. It
reads the original from the file descriptor that comes with the request, so the server never holds the
original's bytes.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING, NamedTuple

from galerly_cdn.errors import DiskError, GalerlyError, TooMuchMemory, Unsettled, UnsupportedFormat
from galerly_cdn.render import refusals
from galerly_cdn.render.formats import kind_of
from galerly_cdn.render.pool import fork_server, protocol, sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from galerly_cdn.model import Facts, Job, Rendered


class Renderer(NamedTuple):
    """The functions that a worker runs; tests pass their own."""

    check: Callable[[], tuple[str, tuple[str, ...]]]
    """Returns the version of libvips and the formats that it decodes."""
    prepare: Callable[[bytes, Job, bool], tuple[Facts, Iterator[tuple[Rendered, bytes]]]]
    """Returns the facts in the header, and a lazy iterator of the pictures.

    Its last argument is whether the original is known to be good.
    """
    inspect: Callable[[bytes], Facts]


def libvips() -> Renderer:
    """Return the renderer of this package and load libvips."""
    from galerly_cdn.render import decoders, header, pipeline  # noqa: PLC0415 - the server imports this file too

    def check() -> tuple[str, tuple[str, ...]]:
        decoders.block_untrusted_loaders()
        return decoders.version(), tuple(sorted(decoders.decodable_formats()))

    def prepare(
        original: bytes,
        job: Job,
        is_known_good: bool,  # noqa: FBT001 - a positional argument of the table's function
    ) -> tuple[Facts, Iterator[tuple[Rendered, bytes]]]:
        known_header = header.read(original)
        pictures = pipeline.pictures(original, job, known_header, is_known_good=is_known_good)
        return header.facts_of(known_header), pictures

    return Renderer(check, prepare, header.inspect)


def main(load: Callable[[], Renderer] = libvips) -> None:
    """Run the fork server, and each of its workers. The argument is the descriptor of the control socket."""
    sandbox.end_with_parent()
    control = socket.socket(fileno=int(sys.argv[1]))
    loaded: Renderer | Exception
    try:
        loaded = load()
    except Exception as error:  # noqa: BLE001 - the first worker reports it
        loaded = error
    started = fork_server.wait_for_start(control, is_loaded=isinstance(loaded, Renderer))
    if started is not None:
        start, fd = started
        _run(socket.socket(fileno=fd), start.limits, loaded)


def _run(server: socket.socket, limits: protocol.WorkerLimits, loaded: Renderer | Exception) -> None:
    """Run a worker until the server closes its connection; report why it cannot start."""
    try:
        renderer = _without_error(loaded)
        in_force = sandbox.apply_limits(limits)
        resident_bytes = sandbox.memory_meter()
        version, formats = renderer.check()
        protocol.send_message(server, protocol.Ready(version, formats, in_force + sandbox.drop_privileges()))
        serve(server, renderer, limits.cpu_s, resident_bytes)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass
    except GalerlyError as error:
        protocol.send_message(server, protocol.Failed(0, error.code, error.detail or str(error)))
    except Exception as error:  # noqa: BLE001 - the server must get every reason before the process ends
        protocol.send_message(
            server, protocol.Failed(0, GalerlyError.code, f"{type(error).__name__}: {error}")
        )
    finally:
        # Left open until the process has gone: the server takes the end of the connection for its exit.
        server.detach()


def _without_error(loaded: Renderer | Exception) -> Renderer:
    if isinstance(loaded, Exception):
        raise loaded
    return loaded


def serve(server: socket.socket, renderer: Renderer, cpu_s: float, resident_bytes: Callable[[], int]) -> None:
    """Answer requests until the server closes the connection. Raises `EOFError` then."""
    while True:
        request, fds = protocol.receive_message(server)
        if not isinstance(request, protocol.Request) or not fds:
            raise protocol.ProtocolError(f"expected Request with a file descriptor, received {request!r}")
        sandbox.extend_cpu_limit(cpu_s)
        _answer(server, renderer, request, fds[0], cpu_s, resident_bytes)


def _answer(  # noqa: PLR0913, PLR0917 - the parts of a worker
    server: socket.socket,
    renderer: Renderer,
    request: protocol.Request,
    fd: int,
    cpu_s: float,
    resident_bytes: Callable[[], int],
) -> None:
    """Answer one request, and close `fd`. The CPU limit applies to each picture."""
    facts = None
    try:
        try:
            original = read_original(fd, request.length_bytes)
        finally:
            os.close(fd)
        if request.job is None:
            protocol.send_message(server, protocol.Done(resident_bytes(), facts=renderer.inspect(original)))
            return
        facts, pictures = renderer.prepare(original, request.job, request.is_known_good)
        refusals.check_limits(facts, request.job.limits)
        protocol.send_message(server, protocol.MemoryNeeded(facts.decode_bytes, kind_of(facts.format)))
        news = None if request.is_known_good else facts
        for _ in request.job.pictures:
            message, _ = protocol.receive_message(server)
            if not isinstance(message, protocol.Continue):
                return
            sandbox.extend_cpu_limit(cpu_s)
            rendered, body = next(pictures)
            protocol.send_message(server, protocol.Done(resident_bytes(), rendered, news), body)
            news = None
    except GalerlyError as error:
        public = error.public if isinstance(error, UnsupportedFormat) else ""
        protocol.send_message(
            server, protocol.Failed(resident_bytes(), error.code, error.detail, public, facts)
        )
    except MemoryError:
        detail = "the worker has reached its memory limit"
        protocol.send_message(
            server, protocol.Failed(resident_bytes(), TooMuchMemory.code, detail, facts=facts)
        )


def read_original(fd: int, length_bytes: int) -> bytes:
    """Read a whole file. Raises `DiskError`, and `Unsettled` for another length: it is being written.

    The file is copied and not mapped: reading a map of a file that shrinks ends the process (SIGBUS).
    """
    chunks = []
    position = 0
    try:
        while chunk := os.pread(fd, length_bytes + 1 - position, position):
            chunks.append(chunk)
            position += len(chunk)
    except OSError as error:  # a fault of the disk says nothing about the original
        raise DiskError(str(error)) from error
    if position != length_bytes:
        raise Unsettled(f"expected {length_bytes} bytes, read {position}")
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
