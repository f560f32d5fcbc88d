"""How does Lambda run a function? AWS's own runtime client, against a double of the Runtime API.

Every execution environment is a process (`python -m awslambdaric`) that asks its own API for one event after
the other (AWS Lambda Developer Guide, "Using the Lambda runtime API"). There are as many as events at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from galerly_cdn.aws_local.http import api_server
from galerly_cdn.aws_local.http.origin_exchange import OriginResponse
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from galerly_cdn.aws_local.http.origin_exchange import OriginRequest

MAX_PAYLOAD_BYTES = 6 * 1024 * 1024
"""Lambda quota: a buffered response, as the JSON that it travels as."""
_MAX_INIT_S = 10.0
"""Lambda quota: initialisation."""
_MAX_LINE_BYTES = 1024 * 1024
_API = "/2018-06-01/runtime"


class Throttled(Exception):
    """All the concurrency there is is taken."""


class TimedOut(Exception):
    """The function was not done in its time; its environment is gone."""


class Crashed(Exception):
    """The process ended, or never came to ask for an event."""


class FunctionFailed(Exception):
    """The function raised an exception, or answered more than Lambda takes: the error as it was told."""


class Function(Value, frozen=True, kw_only=True):
    """A function as the template tells it. `root` is the unpacked zip's folder, or any that it can run in.

    `environment` is all the variables there are, credentials included. Without `may_log` its lines are lost.
    """

    name: str
    handler: str
    root: str
    environment: dict[str, str]
    timeout_s: float
    memory_mb: int
    concurrency: int = 10
    may_log: bool = True
    python: str = sys.executable


class Runtime:
    """Runs one function. `lines` is its log, which `tell` hears of; `inits_s` how long each start took."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self.lines: list[str] = []
        self.tell: Callable[[str], None] = lambda _: None
        self.inits_s: list[float] = []
        self.peak_bytes = 0
        """The most memory that any environment held (Linux)."""
        self._busy = 0
        self._free: list[_Environment] = []
        self._running: set[_Environment] = set()

    async def invoke(self, event: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any JSON
        """The function's result for an event.

        Raises `Throttled`, `TimedOut`, `Crashed`, `FunctionFailed`.
        """
        if self._busy >= self.function.concurrency:
            raise Throttled
        self._busy += 1
        try:
            environment = self._free.pop() if self._free else await self._start()
            self._running.add(environment)
            try:
                async with asyncio.timeout(self.function.timeout_s):
                    return await environment.run(event)
            except TimeoutError:
                raise TimedOut(f"after {self.function.timeout_s} s") from None
            finally:
                self._running.discard(environment)
                await self._put_back(environment)
        finally:
            self._busy -= 1

    def kill(self) -> None:
        """End every environment that is at work, whatever it is at: SIGKILL."""
        for one in self._running:
            one.kill()

    async def close(self) -> None:
        """End every environment that waits."""
        while self._free:
            await self._free.pop().close()

    async def _start(self) -> _Environment:
        environment = _Environment(self.function, self._log)
        began_s = time.monotonic()
        try:
            await environment.start()
        except BaseException:
            await environment.close()
            raise
        self.inits_s.append(time.monotonic() - began_s)
        return environment

    def _log(self, line: str) -> None:
        if self.function.may_log:
            self.lines.append(line)
            self.tell(line)

    async def _put_back(self, environment: _Environment) -> None:
        self.peak_bytes = max(self.peak_bytes, environment.peak_bytes())
        if environment.is_alive:
            self._free.append(environment)
        else:
            await environment.close()


class _Environment:
    """One process and the Runtime API it asks."""

    def __init__(self, function: Function, log: Callable[[str], None]) -> None:
        self._function = function
        self._log = log
        self._last = ""
        self._numbers = itertools.count(1)
        self._events: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        self._ready = asyncio.Event()
        self._result: asyncio.Future[Any] | None = None
        self._api = contextlib.AsyncExitStack()
        self._reading: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self.is_alive = True

    def kill(self) -> None:
        """End the process, whatever it is at."""
        self.is_alive = False
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def start(self) -> None:
        """Return when the process asks for its first event. Raises `Crashed`."""
        address = await self._api.enter_async_context(api_server.listen(self))
        self._process = await asyncio.create_subprocess_exec(
            self._function.python,
            *("-m", "awslambdaric", self._function.handler),
            cwd=self._function.root,
            env=_variables(self._function, address.removeprefix("http://")),
            start_new_session=True,  # Ctrl-C is for whoever runs us
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=_MAX_LINE_BYTES,
        )
        self._reading = asyncio.create_task(self._read_log(self._process))
        try:
            async with asyncio.timeout(_MAX_INIT_S):
                await self._until(self._ready.wait())
        except TimeoutError:
            raise Crashed(f"not initialised after {_MAX_INIT_S} s") from None

    async def run(self, event: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any JSON
        """Hand the process an event; its result. Raises `Crashed`, `FunctionFailed`."""
        self._result = asyncio.get_running_loop().create_future()
        self._events.put_nowait(event)
        return await self._until(self._result)

    async def close(self) -> None:
        """Kill the process, close its API."""
        self.kill()
        if self._process is not None:
            await self._process.wait()
        await self._api.aclose()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    def peak_bytes(self) -> int:
        """The most memory the process has held; 0 where it cannot be told any more."""
        if self._process is None:
            return 0
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{self._process.pid}/status").read_text("ascii")
            return next((int(line.split()[1]) * 1024 for line in status.splitlines() if "VmHWM" in line), 0)
        return 0

    async def _until(self, awaited: Any) -> Any:  # noqa: ANN401 - an event or a future
        """What is awaited, unless the process ends first. Raises `Crashed` then."""
        assert self._process is not None  # noqa: S101 - for the type checker
        assert self._reading is not None  # noqa: S101 - likewise
        wanted = asyncio.ensure_future(awaited)
        ended = asyncio.ensure_future(self._process.wait())
        try:
            await asyncio.wait({wanted, ended}, return_when=asyncio.FIRST_COMPLETED)
            if wanted.done():
                return wanted.result()
            self.is_alive = False
            await self._reading  # its last words
            raise Crashed(f"exit {self._process.returncode}: {self._last}")
        except asyncio.CancelledError:
            self.kill()  # what it is at must not become the response to another event
            raise
        finally:
            wanted.cancel()
            ended.cancel()

    async def _read_log(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None  # noqa: S101 - for the type checker
        async for line in process.stdout:
            self._last = line.decode("utf-8", "replace").rstrip("\n")
            self._log(self._last)

    async def respond(self, request: OriginRequest) -> OriginResponse:
        """The Runtime API's response to the runtime client."""
        path, body = request.raw_path.removeprefix(_API), request.body
        if request.method == "GET" and path == "/invocation/next":
            self._ready.set()
            return await self._next()
        if path.endswith("/error"):
            if path != "/init/error":
                self._settle(FunctionFailed(body.decode("utf-8", "replace")))
        elif len(body) > MAX_PAYLOAD_BYTES:
            told = {"errorType": "Function.ResponseSizeTooLarge", "errorMessage": f"{len(body)} bytes"}
            self._settle(FunctionFailed(json.dumps(told)))
            return OriginResponse(413, {}, json.dumps(told).encode())
        else:
            self._settle(json.loads(body))
        return OriginResponse(202, {}, b"")

    async def _next(self) -> OriginResponse:
        event = await self._events.get()
        deadline_s = time.time() + self._function.timeout_s  # noqa: TID251 - a deadline is told as a date
        headers = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": f"{id(self):x}-{next(self._numbers)}",
            "Lambda-Runtime-Deadline-Ms": str(int(deadline_s * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": f"arn:aws:lambda:::function:{self._function.name}",
        }
        return OriginResponse(200, headers, json.dumps(event).encode())

    def _settle(self, result: object) -> None:
        if self._result is None or self._result.done():
            return
        if isinstance(result, Exception):
            self._result.set_exception(result)
        else:
            self._result.set_result(result)


def _variables(function: Function, api: str) -> dict[str, str]:
    """Those of the function, and those that Lambda reserves for itself."""
    return {
        **function.environment,
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_RUNTIME_API": api,
        "LAMBDA_TASK_ROOT": function.root,
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
    }
