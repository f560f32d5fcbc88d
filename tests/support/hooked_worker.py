"""A worker process that runs the hook its original names: the real `main` with a renderer of hooks.

An original is a JSON script: {"do": HOOK, …}. Only tests start this module; it is not in the package.
"""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import json
import os
import resource
import signal
import socket
import stat
from typing import TYPE_CHECKING, Any

from galerly_cdn import errors
from galerly_cdn.model import Facts, Format, Rendered
from galerly_cdn.render.formats import OriginalFormat
from galerly_cdn.render.pool import protocol, worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from galerly_cdn.model import Job

Script = dict[str, Any]


def main() -> None:
    # The measurement of coverage handles the signal by writing its data, which a worker may not.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    worker.main(lambda: worker.Renderer(check, prepare, inspect))


def main_with_wrong_libvips() -> None:
    """Run a worker whose check raises."""

    def raise_wrong() -> tuple[str, tuple[str, ...]]:
        raise errors.SettingsError(["the wrong libvips is loaded; reinstall it"])

    worker.main(lambda: worker.Renderer(raise_wrong, prepare, inspect))


def check() -> tuple[str, tuple[str, ...]]:
    return "0.0.0", ("script",)


def prepare(
    original: bytes,
    job: Job,
    is_known_good: bool,  # noqa: FBT001 - as the worker calls it
) -> tuple[Facts, Iterator[tuple[Rendered, bytes]]]:
    """`prepare_barrier` waits at a barrier; `memory_bytes` is the memory that is asked for.

    `frames` is that number in the header. The orientation is 3 if the original is known to be good.
    """
    assert job.limits.max_pixels > 0
    script = json.loads(original)
    if "prepare_barrier" in script:
        wait_at_barrier(script["prepare_barrier"], script)
    facts = Facts(
        format="script",
        width_px=1,
        height_px=1,
        orientation=3 if is_known_good else 1,
        frames=int(script.get("frames", 1)),
        bits=8,
        bands=3,
        has_alpha=False,
        is_progressive=False,
        profile=None,
        metadata=(),
        loses=(),
        decode_bytes=int(script.get("memory_bytes", 0)),
        coefficient_bytes=0,
    )
    return facts, pictures(script, job)


def pictures(script: Script, job: Job) -> Iterator[tuple[Rendered, bytes]]:
    """Run `do` for every picture; it may be a hook for each width.

    `extra_bytes` is added to the length that is reported; `repeat_target` reports the first target always.
    """
    for picture in job.pictures:
        size = picture.target.size
        do = script["do"] if isinstance(script["do"], str) else script["do"][str(size.width_px)]
        body = HOOKS[do](script | {"do": do, "picture": size.width_px}) or str(os.getpid()).encode()
        target = job.pictures[0].target if "repeat_target" in script else picture.target
        length_bytes = len(body) + script.get("extra_bytes", 0)
        md5 = hashlib.md5(body, usedforsecurity=False).hexdigest()
        yield Rendered(target, Format.JPEG, size.width_px, size.height_px, length_bytes, md5), body


def inspect(original: bytes) -> Facts:
    script = json.loads(original)
    HOOKS[script["do"]](script)
    return Facts("script", 1, 1, 1, 1, 8, 3, False, False, None, (), (), 0, 0)


def wait_at_barrier(path: str, script: Script) -> None:
    """Connect to a `worker_pool.Barrier` and wait until it releases."""
    with socket.socket(socket.AF_UNIX) as barrier:
        arrive(barrier, path, script)
        barrier.recv(1)


def arrive(barrier: socket.socket, path: str, script: Script) -> None:
    """Connect to a barrier, and send it the script with this process's id."""
    barrier.connect(path)
    barrier.sendall(json.dumps(script | {"pid": os.getpid()}).encode() + b"\n")


def loop_forever(_: Script) -> None:
    while True:
        pass


def fork(script: Script) -> None:
    """Exit and leave a child that holds the parent's socket open; the child arrives at the barrier then."""
    exited, held_by_parent = os.pipe()
    if os.fork() == 0:
        os.close(held_by_parent)
        os.read(exited, 1)
        wait_at_barrier(script["barrier"], script)
    os._exit(3)


def wait_for_disconnection(script: Script) -> None:
    """Arrive at the barrier, then wait until the server has closed the connection."""
    connection = server()
    with socket.socket(socket.AF_UNIX) as barrier:
        arrive(barrier, script["barrier"], script)
        connection.recv(1)


def allocate_8_gib(_: Script) -> None:
    bytearray(8 << 30)


def write_to_stdout(_: Script) -> None:
    os.write(1, b"spam" * 100_000)


def fill_stderr(_: Script) -> None:
    """Write more than a pipe holds: a worker that waited for the server to read would hang."""
    for _line in range(100):
        try:
            os.write(2, b"spam" * 1000)
        except BlockingIOError:
            return


def send_garbage(_: Script) -> None:
    server().sendall(b"HTTP/1.1 200 OK\r\n\r\n")


def send_huge_header(_: Script) -> None:
    """Send the header of a frame of 4 GiB."""
    server().sendall(protocol.HEADER.pack(b"D", 10, 2**32 - 1))


def respond_twice(_: Script) -> None:
    protocol.send_message(server(), protocol.MemoryNeeded(1, OriginalFormat.RAW))
    protocol.send_message(server(), protocol.MemoryNeeded(1, OriginalFormat.RAW))


def server() -> socket.socket:
    """A duplicate of the worker's socket, while the worker has no other."""
    (fd,) = (fd for fd in open_descriptors() if stat.S_ISSOCK(os.fstat(fd).st_mode))
    return socket.socket(fileno=os.dup(fd))


def open_descriptors() -> list[int]:
    """The open descriptors; a worker may not read /proc."""
    found = []
    for fd in range(resource.getrlimit(resource.RLIMIT_NOFILE)[0]):
        with contextlib.suppress(OSError):
            os.fstat(fd)
            found.append(fd)
    return found


def raise_code(script: Script) -> None:
    raise errors.by_code()[script["code"]]("the hook's detail")


def raise_sentence(script: Script) -> None:
    raise errors.UnsupportedFormat("the hook's detail", script["sentence"])


def raise_unknown(_: Script) -> None:
    raise RuntimeError("a defect in the worker")


def try_forbidden(script: Script) -> bytes:
    """Try everything that the sandbox forbids; return the errors as JSON."""
    spare = os.dup(0)
    attempts: dict[str, Callable[[], object]] = {
        "memory": lambda: bytearray(8 << 30),
        "file-size": lambda: os.write(os.memfd_create("file"), b"x"),
        "open-files": lambda: [os.dup(spare) for _ in range(100)],
        "no-network": lambda: socket.create_connection(("127.0.0.1", script["port"]), timeout=5),
        "no-files": lambda: os.open(script["path"], os.O_RDONLY),
    }
    errors_raised = {"library": codecs.lookup("utf-16-be").name}
    for name, attempt in attempts.items():
        try:
            attempt()
        except (MemoryError, OSError) as error:
            errors_raised[name] = type(error).__name__
    errors_raised["core"] = str(resource.getrlimit(resource.RLIMIT_CORE))
    return json.dumps(errors_raised).encode()


HOOKS: dict[str, Callable[[Script], bytes | None]] = {
    "nothing": lambda _: None,
    "echo": lambda script: str(script["text"]).encode(),
    "big": lambda script: b"x" * script["length_bytes"],
    "environment": lambda _: json.dumps(dict(os.environ)).encode(),
    "wait": lambda script: wait_at_barrier(script["barrier"], script),
    "loop": loop_forever,
    "wait for disconnection": wait_for_disconnection,
    "abort": lambda _: os.abort(),
    "segv": lambda _: os.kill(os.getpid(), signal.SIGSEGV),
    "exceed the CPU limit": lambda _: os.kill(os.getpid(), signal.SIGXCPU),
    "exit": lambda _: os._exit(0),
    "fork": fork,
    "allocate": allocate_8_gib,
    "stdout": write_to_stdout,
    "stderr": fill_stderr,
    "garbage": send_garbage,
    "huge header": send_huge_header,
    "respond twice": respond_twice,
    "raise": raise_code,
    "raise sentence": raise_sentence,
    "raise unknown": raise_unknown,
    "try forbidden": try_forbidden,
}
