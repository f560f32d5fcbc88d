"""Runs viewer functions in Node.js, each in a context of its own, or in njs if Node.js is not installed."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from galerly_cdn.aws_local.cloudformation.properties import UnmodelledProperty
from galerly_cdn.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

PROGRAMS = ("node", "njs")
TIMEOUT_MS = 200
"""CloudFront allows about 1 ms of CPU time. A busy machine may take longer for the same function."""
_PROCESS_TIMEOUT_S = 2.0
"""The time-out of a process that runs one function; starting it takes most of the time."""
_MAX_LINE_BYTES = 4_194_304
_NJS = "\nconsole.log(JSON.stringify({result: handler(JSON.parse(process.argv[2]))}));\n"


class FunctionFailed(Exception):
    """A function threw an exception, or took too long."""


class Engine(Protocol):
    """Runs functions by name. It is an async context manager: entering starts it, leaving stops it."""

    async def __aenter__(self) -> Self:
        """Raises `UnmodelledProperty` for code with a syntax error, which CloudFormation would refuse."""
        ...

    async def __aexit__(self, *_: object) -> None: ...

    async def call(self, name: str, event: Mapping[str, Any]) -> object:
        """The JSON value that `handler(event)` returns. Raises `FunctionFailed`."""
        ...


def find_engine(sources: Mapping[str, str], programs: tuple[str, ...] = PROGRAMS) -> Engine:
    """The engine of the first program that is installed. Raises `SettingsError` if none is."""
    for program in programs:
        if shutil.which(program):
            return NodeEngine(sources) if program == "node" else NjsEngine(sources)
    raise SettingsError([f"{' or '.join(programs)}: needed to run the viewer function, but not installed"])


class NodeEngine:
    """One Node.js process, which handles one event at a time."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        self._sources = sources
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> Self:
        driver = resources.files("galerly_cdn.aws_local.cloudfront").joinpath("runtime.js").read_text("utf-8")
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            "node", "-e", driver, stdin=pipe, stdout=pipe, limit=_MAX_LINE_BYTES
        )
        for name, code in self._sources.items():
            try:
                await self._send({"load": name, "code": code})
            except FunctionFailed as error:
                await self.__aexit__()
                raise UnmodelledProperty(name, "FunctionCode", str(error)) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process.stdin  # noqa: S101 - started with a pipe
        self._process.stdin.close()
        await self._process.wait()

    async def call(self, name: str, event: Mapping[str, Any]) -> object:
        return await self._send({"call": name, "event": event, "milliseconds": TIMEOUT_MS})

    async def _send(self, message: Mapping[str, Any]) -> object:
        """Shielded from cancellation: an unread response would be taken for that of the next message."""
        return await asyncio.shield(self._exchange(message))

    async def _exchange(self, message: Mapping[str, Any]) -> object:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin  # noqa: S101 - started with pipes
        assert stdout  # noqa: S101 - likewise
        async with self._lock:
            stdin.write(json.dumps(message).encode() + b"\n")
            await stdin.drain()
            line = await stdout.readline()
        if not line:
            raise FunctionFailed("the Node.js process has ended")
        return _result(json.loads(line))


class NjsEngine:
    """Starts an njs process for each event."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        self._sources = sources

    async def __aenter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="galerly-")
        self._files = {}
        for number, (name, code) in enumerate(self._sources.items()):
            self._files[name] = Path(self._folder.name, f"{number}.js")
            self._files[name].write_text(code + _NJS, "utf-8")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._folder.cleanup()

    async def call(self, name: str, event: Mapping[str, Any]) -> object:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            "njs", self._files[name], json.dumps(event), stdout=pipe, stderr=pipe
        )
        try:
            async with asyncio.timeout(_PROCESS_TIMEOUT_S):
                stdout, stderr = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise FunctionFailed(f"no response in {_PROCESS_TIMEOUT_S} s") from None
        if process.returncode:
            raise FunctionFailed(stderr.decode() or stdout.decode())
        return _result(json.loads(stdout))


def _result(response: dict[str, Any]) -> object:
    if "error" in response:
        raise FunctionFailed(response["error"])
    return response.get("result")
