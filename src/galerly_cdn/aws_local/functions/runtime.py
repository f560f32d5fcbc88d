"""Runs a Lambda function with AWS's runtime client, against an implementation of the Runtime API.

Every execution environment is a process (`python -m awslambdaric`) that fetches one event after another from
a Runtime API of its own (AWS Lambda Developer Guide, "Using the Lambda runtime API"). There are as many
environments as there are concurrent events.
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
"""Lambda quota: a buffered response, as JSON."""
_MAX_INIT_S = 10.0
"""Lambda quota: initialisation."""
_MAX_LINE_BYTES = 1024 * 1024
_API = "/2018-06-01/runtime"


class Throttled(Exception):
    """The function's concurrency is used up."""


class TimedOut(Exception):
    """The function did not finish in time; its environment was stopped."""


class Crashed(Exception):
    """The process ended, or did not fetch its first event in time."""


class FunctionFailed(Exception):
    """The function raised an exception, or its response was too large. The message is the error's JSON."""


class Function(Value, frozen=True, kw_only=True):
    """A function's configuration. `root` is the folder with its code.

    `environment` is its complete environment, credentials included. Without `may_log` its log lines are
    dropped.
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
    """Runs one function. `on_log_line` is called with each line of its log."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self.log_lines: list[str] = []
        self.on_log_line: Callable[[str], None] = lambda _: None
        self.init_durations_s: list[float] = []
        """The duration of each environment's initialisation."""
        self.peak_bytes = 0
        """The maximum resident memory of any environment (Linux)."""
        self._busy = 0
        self._idle: list[_ExecutionEnvironment] = []
        self._running: set[_ExecutionEnvironment] = set()

    async def invoke(self, event: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any JSON
        """The function's result for an event.

        Raises `Throttled`, `TimedOut`, `Crashed`, `FunctionFailed`.
        """
        if self._busy >= self.function.concurrency:
            raise Throttled
        self._busy += 1
        try:
            environment = self._idle.pop() if self._idle else await self._start()
            self._running.add(environment)
            try:
                async with asyncio.timeout(self.function.timeout_s):
                    return await environment.run(event)
            except TimeoutError:
                raise TimedOut(f"after {self.function.timeout_s} s") from None
            finally:
                self._running.discard(environment)
                await self._release(environment)
        finally:
            self._busy -= 1

    def kill(self) -> None:
        """Kills every environment that is processing an event, with SIGKILL."""
        for environment in self._running:
            environment.kill()

    async def close(self) -> None:
        """Stops all idle environments."""
        while self._idle:
            await self._idle.pop().close()

    async def _start(self) -> _ExecutionEnvironment:
        environment = _ExecutionEnvironment(self.function, self._log)
        started_s = time.monotonic()
        try:
            await environment.start()
        except BaseException:
            await environment.close()
            raise
        self.init_durations_s.append(time.monotonic() - started_s)
        return environment

    def _log(self, line: str) -> None:
        if self.function.may_log:
            self.log_lines.append(line)
            self.on_log_line(line)

    async def _release(self, environment: _ExecutionEnvironment) -> None:
        self.peak_bytes = max(self.peak_bytes, environment.peak_bytes())
        if environment.is_alive:
            self._idle.append(environment)
        else:
            await environment.close()


class _ExecutionEnvironment:
    """One process, and the Runtime API that serves it."""

    def __init__(self, function: Function, log: Callable[[str], None]) -> None:
        self._function = function
        self._log = log
        self._last_line = ""
        self._event_numbers = itertools.count(1)
        self._events: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        self._ready = asyncio.Event()
        self._result: asyncio.Future[Any] | None = None
        self._api = contextlib.AsyncExitStack()
        self._log_reader: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self.is_alive = True

    def kill(self) -> None:
        """Kills the process."""
        self.is_alive = False
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def start(self) -> None:
        """Starts the process, and returns when it fetches its first event. Raises `Crashed`."""
        address = await self._api.enter_async_context(api_server.listen(self))
        self._process = await asyncio.create_subprocess_exec(
            self._function.python,
            *("-m", "awslambdaric", self._function.handler),
            cwd=self._function.root,
            env=_variables(self._function, address.removeprefix("http://")),
            start_new_session=True,  # so that Ctrl-C reaches only our process
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=_MAX_LINE_BYTES,
        )
        self._log_reader = asyncio.create_task(self._read_log(self._process))
        try:
            async with asyncio.timeout(_MAX_INIT_S):
                await self._or_crash(self._ready.wait())
        except TimeoutError:
            raise Crashed(f"not initialised after {_MAX_INIT_S} s") from None

    async def run(self, event: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any JSON
        """Passes an event to the process, and returns its result. Raises `Crashed`, `FunctionFailed`."""
        self._result = asyncio.get_running_loop().create_future()
        self._events.put_nowait(event)
        return await self._or_crash(self._result)

    async def close(self) -> None:
        """Kills the process and closes its Runtime API."""
        self.kill()
        if self._process is not None:
            await self._process.wait()
        await self._api.aclose()
        if self._log_reader is not None:
            self._log_reader.cancel()
            await asyncio.gather(self._log_reader, return_exceptions=True)

    def peak_bytes(self) -> int:
        """The maximum resident memory of the process; 0 if the process has ended."""
        if self._process is None:
            return 0
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{self._process.pid}/status").read_text("ascii")
            return next((int(line.split()[1]) * 1024 for line in status.splitlines() if "VmHWM" in line), 0)
        return 0

    async def _or_crash(self, awaited: Any) -> Any:  # noqa: ANN401 - an event or a future
        """The result of an awaitable. Raises `Crashed` if the process ends first."""
        assert self._process is not None  # noqa: S101 - for the type checker
        assert self._log_reader is not None  # noqa: S101 - likewise
        future = asyncio.ensure_future(awaited)
        ended = asyncio.ensure_future(self._process.wait())
        try:
            await asyncio.wait({future, ended}, return_when=asyncio.FIRST_COMPLETED)
            if future.done():
                return future.result()
            self.is_alive = False
            await self._log_reader  # until the last line of the log
            raise Crashed(f"exit {self._process.returncode}: {self._last_line}")
        except asyncio.CancelledError:
            self.kill()  # its result must not become the response to another event
            raise
        finally:
            future.cancel()
            ended.cancel()

    async def _read_log(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None  # noqa: S101 - for the type checker
        async for line in process.stdout:
            self._last_line = line.decode("utf-8", "replace").rstrip("\n")
            self._log(self._last_line)

    async def respond(self, request: OriginRequest) -> OriginResponse:
        """The Runtime API's response to a request of the runtime client."""
        path, body = request.raw_path.removeprefix(_API), request.body
        if request.method == "GET" and path == "/invocation/next":
            self._ready.set()
            return await self._next_invocation()
        if path.endswith("/error"):
            if path != "/init/error":
                self._set_result(FunctionFailed(body.decode("utf-8", "replace")))
        elif len(body) > MAX_PAYLOAD_BYTES:
            error = {"errorType": "Function.ResponseSizeTooLarge", "errorMessage": f"{len(body)} bytes"}
            self._set_result(FunctionFailed(json.dumps(error)))
            return OriginResponse(413, {}, json.dumps(error).encode())
        else:
            self._set_result(json.loads(body))
        return OriginResponse(202, {}, b"")

    async def _next_invocation(self) -> OriginResponse:
        event = await self._events.get()
        deadline_s = time.time() + self._function.timeout_s  # noqa: TID251 - the header has the wall-clock time
        headers = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": f"{id(self):x}-{next(self._event_numbers)}",
            "Lambda-Runtime-Deadline-Ms": str(int(deadline_s * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": f"arn:aws:lambda:::function:{self._function.name}",
        }
        return OriginResponse(200, headers, json.dumps(event).encode())

    def _set_result(self, result: object) -> None:
        if self._result is None or self._result.done():
            return
        if isinstance(result, Exception):
            self._result.set_exception(result)
        else:
            self._result.set_result(result)


def _variables(function: Function, api: str) -> dict[str, str]:
    """The function's environment, and the variables that Lambda sets."""
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
