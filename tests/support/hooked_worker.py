"""A worker that misbehaves when its original says so: the real main around a renderer of hooks.

An original is JSON: {"do": NAME, …}. Only tests start it; nothing of it is in the package.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import resource
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

from galerly_cdn import errors
from galerly_cdn.model import Facts, Format, Rendered
from galerly_cdn.render.pool import protocol, worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from galerly_cdn.model import Job

Script = dict[str, Any]


def main() -> None:
    worker.main(lambda: worker.Renderer(check, prepare, inspect))


def refuse() -> None:
    """The main of a worker that finds the wrong libvips."""

    def wrong() -> tuple[str, tuple[str, ...]]:
        raise errors.SettingsError(["the wrong libvips is loaded; reinstall it"])

    worker.main(lambda: worker.Renderer(wrong, prepare, inspect))


def check() -> tuple[str, tuple[str, ...]]:
    return "0.0.0", ("script",)


def prepare(original: bytes, job: Job) -> tuple[int, Iterator[tuple[Rendered, bytes]]]:
    assert job.limits.max_pixels > 0
    script = json.loads(original)
    if "weigh_at" in script:
        meet(script["weigh_at"], script)
    return int(script.get("weight_bytes", 0)), pictures(script, job)


def pictures(script: Script, job: Job) -> Iterator[tuple[Rendered, bytes]]:
    """`do` is done for every picture, or is one for each by its width; `lie_target` tells the first again."""
    for picture in job.pictures:
        size = picture.target.size
        do = script["do"] if isinstance(script["do"], str) else script["do"][str(size.width_px)]
        body = HOOKS[do](script | {"do": do, "picture": size.width_px}) or str(os.getpid()).encode()
        target = job.pictures[0].target if "lie_target" in script else picture.target
        length_bytes = len(body) + script.get("lie_bytes", 0)
        md5 = hashlib.md5(body, usedforsecurity=False).hexdigest()
        yield Rendered(target, Format.JPEG, size.width_px, size.height_px, length_bytes, md5), body


def inspect(original: bytes) -> Facts:
    script = json.loads(original)
    HOOKS[script["do"]](script)
    return Facts("script", 1, 1, 1, 1, 8, 3, False, False, None, (), (), 0)


def meet(path: str, script: Script) -> None:
    """Say that we are here, and wait to be let go."""
    with socket.socket(socket.AF_UNIX) as door:
        door.connect(path)
        door.sendall(json.dumps(script | {"pid": os.getpid()}).encode() + b"\n")
        door.recv(1)


def spin(_: Script) -> None:
    while True:
        pass


def fork(script: Script) -> None:
    """A child that outlives its parent and holds the parent's socket."""
    if os.fork() == 0:
        meet(script["at"], script)
    os._exit(3)


def hog(_: Script) -> None:
    bytearray(8 << 30)


def print_much(_: Script) -> None:
    os.write(1, b"spam" * 100_000)


def complain_much(_: Script) -> None:
    """More than a pipe holds: a worker that waited for the server to read would hang."""
    for _line in range(100):
        try:
            os.write(2, b"spam" * 1000)
        except BlockingIOError:
            return


def garble(_: Script) -> None:
    server().sendall(b"HTTP/1.1 200 OK\r\n\r\n")


def overstate(_: Script) -> None:
    """A frame that promises 4 GiB."""
    server().sendall(protocol.HEAD.pack(b"d", 10, 2**32 - 1))


def answer_twice(_: Script) -> None:
    protocol.send_message(server(), protocol.MemoryNeeded(1))
    protocol.send_message(server(), protocol.MemoryNeeded(1))


def server() -> socket.socket:
    return socket.socket(fileno=os.dup(int(sys.argv[1])))


def raise_code(script: Script) -> None:
    raise errors.by_code()[script["code"]]("the hook's detail")


def raise_bug(_: Script) -> None:
    raise RuntimeError("a defect of ours")


def trespass(script: Script) -> bytes:
    """Try what the sandbox forbids; the errors met."""
    spare = os.dup(0)
    attempts: dict[str, Callable[[], object]] = {
        "memory": lambda: bytearray(8 << 30),
        "file-size": lambda: os.write(os.memfd_create("file"), b"x"),
        "open-files": lambda: [os.dup(spare) for _ in range(100)],
        "no-network": lambda: socket.create_connection(("127.0.0.1", script["port"]), timeout=5),
        "no-files": lambda: os.open(script["path"], os.O_RDONLY),
    }
    met = {"library": codecs.lookup("utf-16-be").name}
    for name, attempt in attempts.items():
        try:
            attempt()
        except (MemoryError, OSError) as error:
            met[name] = type(error).__name__
    met["core"] = str(resource.getrlimit(resource.RLIMIT_CORE))
    return json.dumps(met).encode()


HOOKS: dict[str, Callable[[Script], bytes | None]] = {
    "work": lambda _: None,
    "say": lambda script: str(script["say"]).encode(),
    "big": lambda script: b"x" * script["length_bytes"],
    "environment": lambda _: json.dumps(dict(os.environ)).encode(),
    "meet": lambda script: meet(script["at"], script),
    "spin": spin,
    "abort": lambda _: os.abort(),
    "segv": lambda _: os.kill(os.getpid(), signal.SIGSEGV),
    "exit": lambda _: os._exit(0),
    "fork": fork,
    "hog": hog,
    "print": print_much,
    "complain": complain_much,
    "garble": garble,
    "overstate": overstate,
    "answer twice": answer_twice,
    "raise": raise_code,
    "bug": raise_bug,
    "trespass": trespass,
}
