"""Where do viewer functions run? In Node, each in a realm of its own, or in njs where there is no Node."""

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
"""CloudFront allows about one of CPU time; a busy machine takes longer to run what is as short."""
_PROCESS_S = 2.0
"""A process takes longer to start than a function to run."""
_LONGEST_LINE_BYTES = 4_194_304
_NJS = "\nconsole.log(JSON.stringify({result: handler(JSON.parse(process.argv[2]))}));\n"


class FunctionFailed(Exception):
    """A function threw, or took too long."""


class Engine(Protocol):
    """Runs functions by name; used as a context, at whose end it stops."""

    async def __aenter__(self) -> Self:
        """Raises `UnmodelledProperty` for code that is none, as CloudFormation would not take it."""
        ...

    async def __aexit__(self, *_: object) -> None: ...

    async def call(self, name: str, event: Mapping[str, Any]) -> object:
        """What `handler(event)` returns, as JSON. Raises `FunctionFailed`."""
        ...


def find_engine(sources: Mapping[str, str], programs: tuple[str, ...] = PROGRAMS) -> Engine:
    """The first engine whose program this machine has. Raises `SettingsError` if it has none."""
    for program in programs:
        if shutil.which(program):
            return Node(sources) if program == "node" else Njs(sources)
    raise SettingsError([f"{' or '.join(programs)}: needed to run the viewer function; neither is installed"])


class Node:
    """One process, asked one event at a time."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        self._sources = sources
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        driver = resources.files("galerly_cdn.aws_local.cloudfront").joinpath("runtime.js").read_text("utf-8")
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            "node", "-e", driver, stdin=pipe, stdout=pipe, limit=_LONGEST_LINE_BYTES
        )
        for name, code in self._sources.items():
            try:
                await self._ask({"load": name, "code": code})
            except FunctionFailed as error:
                await self.__aexit__()
                raise UnmodelledProperty(name, "FunctionCode", str(error)) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process.stdin  # noqa: S101 - a pipe was asked for
        self._process.stdin.close()
        await self._process.wait()

    async def call(self, name: str, event: Mapping[str, Any]) -> object:
        return await self._ask({"call": name, "event": event, "milliseconds": TIMEOUT_MS})

    async def _ask(self, line: Mapping[str, Any]) -> object:
        """Shielded: a response that nobody waits for would be taken for the next one's."""
        return await asyncio.shield(self._exchange(line))

    async def _exchange(self, line: Mapping[str, Any]) -> object:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin  # noqa: S101 - pipes were asked for
        assert stdout  # noqa: S101 - likewise
        async with self._turn:
            stdin.write(json.dumps(line).encode() + b"\n")
            await stdin.drain()
            told = await stdout.readline()
        if not told:
            raise FunctionFailed("the engine has ended")
        return _result(json.loads(told))


class Njs:
    """A process for each event."""

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
            async with asyncio.timeout(_PROCESS_S):
                told, complaint = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise FunctionFailed("no response in time") from None
        if process.returncode:
            raise FunctionFailed(complaint.decode() or told.decode())
        return _result(json.loads(told))


def _result(told: dict[str, Any]) -> object:
    if "error" in told:
        raise FunctionFailed(told["error"])
    return told.get("result")
