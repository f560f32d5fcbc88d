"""What does a worker process do? Its main: confine itself, then render what the server sends, one by one.

It blocks on one socket, and ends when the server closes it. Nothing is written to stdout or to a file.
The original is read from the descriptor that came with the order; the server never sees its bytes.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING, NamedTuple

from galerly_cdn.errors import GalerlyError, TooMuchMemory, Unsettled
from galerly_cdn.render.pool import protocol, sandbox
from galerly_cdn.serialization import from_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from galerly_cdn.model import Facts, Job, Rendered


class Renderer(NamedTuple):
    """The functions a worker runs; tests give others."""

    check: Callable[[], tuple[str, tuple[str, ...]]]
    """libvips' version, and the formats that really decode."""
    prepare: Callable[[bytes, Job], tuple[int, Iterator[tuple[Rendered, bytes]]]]
    """The memory that decoding will take, known from the header; and the pictures, made when asked for."""
    inspect: Callable[[bytes], Facts]


def libvips() -> Renderer:
    """The renderer; importing it loads libvips."""
    from galerly_cdn.render import decoders, header, pipeline  # noqa: PLC0415 - the server imports this file too

    def check() -> tuple[str, tuple[str, ...]]:
        decoders.block_untrusted_loaders()
        return decoders.version(), tuple(sorted(decoders.decodable_formats()))

    def prepare(original: bytes, job: Job) -> tuple[int, Iterator[tuple[Rendered, bytes]]]:
        read = header.read(original)
        header.check(read, job.limits)
        return read.decode_bytes, pipeline.pictures(original, job, read)

    return Renderer(check, prepare, header.inspect)


def main(load: Callable[[], Renderer] = libvips) -> None:
    """Arguments: the socket's descriptor, and `Bounds` as JSON."""
    server = socket.socket(fileno=int(sys.argv[1]))
    bounds = from_json(protocol.WorkerLimits, sys.argv[2].encode())
    try:
        renderer = load()
        confined = sandbox.apply_limits(bounds)
        resident_bytes = sandbox.memory_meter()
        version, formats = renderer.check()
        protocol.send_message(server, protocol.Ready(version, formats, confined + sandbox.drop_privileges()))
        serve(server, renderer, bounds.cpu_s, resident_bytes)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass
    except GalerlyError as error:
        protocol.send_message(server, protocol.Failed(0, error.code, error.detail or str(error)))
    except Exception as error:  # noqa: BLE001 - whatever it is, the server must hear it before the process ends
        protocol.send_message(
            server, protocol.Failed(0, GalerlyError.code, f"{type(error).__name__}: {error}")
        )
    finally:
        server.detach()  # stays open until the process is gone: the server takes its end for ours


def serve(server: socket.socket, renderer: Renderer, cpu_s: float, resident_bytes: Callable[[], int]) -> None:
    """Answer orders until the server closes. Raises `EOFError` then."""
    while True:
        order, fd = protocol.receive_message(server)
        if not isinstance(order, protocol.Request) or fd is None:
            raise protocol.ProtocolError(repr(order))
        sandbox.extend_cpu_limit(cpu_s)
        try:
            for rendered, facts, body in _answers(server, renderer, order, fd, cpu_s):
                protocol.send_message(server, protocol.Done(resident_bytes(), rendered, facts), body)
        except GalerlyError as error:
            protocol.send_message(server, protocol.Failed(resident_bytes(), error.code, error.detail))
        except MemoryError:
            detail = "the worker's memory is used up"
            protocol.send_message(server, protocol.Failed(resident_bytes(), TooMuchMemory.code, detail))


def _answers(
    server: socket.socket, renderer: Renderer, order: protocol.Request, fd: int, cpu_s: float
) -> Iterator[tuple[Rendered | None, Facts | None, bytes]]:
    """The facts, or a picture for every Go; each picture has the whole CPU time."""
    try:
        original = read(fd, order.length_bytes)
    finally:
        os.close(fd)
    if order.job is None:
        yield None, renderer.inspect(original), b""
        return
    weight_bytes, pictures = renderer.prepare(original, order.job)
    protocol.send_message(server, protocol.MemoryNeeded(weight_bytes))
    for _ in order.job.pictures:
        words, _ = protocol.receive_message(server)
        if not isinstance(words, protocol.Continue):
            return
        sandbox.extend_cpu_limit(cpu_s)
        rendered, body = next(pictures)
        yield rendered, None, body


def read(fd: int, length_bytes: int) -> bytes:
    """The whole file. Raises `Unsettled` if it is shorter or longer: it is being written.

    A copy and no map: a file that shrinks under a map ends the process.
    """
    chunks = []
    done = 0
    while chunk := os.pread(fd, length_bytes + 1 - done, done):
        chunks.append(chunk)
        done += len(chunk)
    if done != length_bytes:
        raise Unsettled(f"expected {length_bytes} bytes, read {done}")
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
