"""Starts hit processes, gives connections to them, and replaces those that end.

The server accepts every connection, and counts it also while a hit process serves it. The end of a process's
channel is its end: the kernel has closed its connections then, and their counts are released. A process does
not outlive the server: it ends with its channel.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import logging
import os
import subprocess
from typing import TYPE_CHECKING

from galerly_cdn.server.processes import messages
from galerly_cdn.server.processes.channel import Channel, channel_pair
from galerly_cdn.server.processes.shared_connection import Returned, SharedConnection

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine, Iterable, Sequence

    from galerly_cdn.model import Target
    from galerly_cdn.server.listener import ListenerState
    from galerly_cdn.telemetry import AccessRecord

_log = logging.getLogger(__name__)

ANSWER_S = 5.0
"""Time for a process to forget purged renditions, and to end; one that takes longer is killed."""
_RESTART_S = 1.0
"""Time between two starts of one process, so that one that cannot start does not use up a core."""
_MAX_FORGOTTEN = 64
"""Renditions in one message."""


class Given:
    """A connection that a hit process serves, as the server's limits and its stop see it."""

    def __init__(self, process: HitProcess, number: int, address: str, unused: int) -> None:
        self.unused = unused
        self.data = b""
        """What the process has returned of it so far."""
        self._process = process
        self._number = number
        self._address = address
        process.state.add(self)

    def end(self) -> None:
        """Count the connection no longer."""
        if self._process.given.pop(self._number, None) is not None:
            self._process.state.discard(self)
            self._process.state.limit.release(self._address)
            self._process.on_change()

    def drain(self) -> None:
        """Do nothing, as `shutdown`."""

    def shutdown(self) -> None:
        """Do nothing: `HitProcesses.drain` lets the process return its connections."""

    def abort(self) -> None:
        """End the connection, with the process and its other ones."""
        self._process.kill()


class HitProcess:
    """One hit process, from its start to its end."""

    def __init__(
        self,
        command: Sequence[str],
        start: messages.Start,
        state: ListenerState,
        on_message: Callable[[HitProcess, messages.Message, bytes, socket.socket | None], None],
        on_change: Callable[[], None],
    ) -> None:
        """Raises `OSError` when the machine refuses another process."""
        self.state = state
        self.given: dict[int, Given] = {}
        self.is_ready = False
        self.memory_bytes = 0
        self.broken = 0
        """Connections that ended with the process."""
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._forgetting: dict[int, asyncio.Future[tuple[str, ...]]] = {}
        self.on_change = on_change
        """Called when the process has ended, or serves a connection less."""
        own_end, other_end = channel_pair()
        with other_end, contextlib.ExitStack() as on_error:
            on_error.callback(own_end.close)
            self._popen = subprocess.Popen(  # noqa: S603 - our own interpreter and code
                [*command, str(other_end.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[other_end.fileno()],
                process_group=0,  # a terminal's Ctrl-C must reach the server alone
            )
            on_error.pop_all()
        on_received = functools.partial(on_message, self)
        self._channel = Channel(own_end, asyncio.get_running_loop(), on_received, self.end)
        self._channel.send(start)

    @property
    def pid(self) -> int:
        return self._popen.pid

    def send(self, message: messages.Message) -> None:
        self._channel.send(message)

    def give(self, number: int, fd: int, address: str, unused: int) -> bool:
        """Give a connection to the process; False if it cannot take it now."""
        is_given = self._channel.try_send(messages.Give(number), fd)
        if is_given:
            self.given[number] = Given(self, number, address, unused)
        return is_given

    async def forget(self, number: int, renditions: Iterable[tuple[str, str]]) -> tuple[str, ...]:
        """Let the process remove renditions from memory; the targets of those that were there.

        A process that does not answer is killed.
        """
        if not self.is_ready:
            return ()
        answered: asyncio.Future[tuple[str, ...]] = asyncio.get_running_loop().create_future()
        self._forgetting[number] = answered
        self._channel.send(messages.Forget(number, tuple(renditions)))
        try:
            async with asyncio.timeout(ANSWER_S):
                return await answered
        except TimeoutError:
            _log.error("the hit process %d does not answer, and is killed", self.pid)
            self.kill()
            await self.ended
            return ()

    def forgotten(self, number: int, removed: tuple[str, ...] = ()) -> None:
        """Note the answer to a `forget`."""
        answered = self._forgetting.pop(number, None)
        if answered is not None and not answered.done():
            answered.set_result(removed)

    def kill(self) -> None:
        """Kill the process; the end of its channel follows."""
        if self._popen.returncode is None:
            self._popen.kill()

    def end(self) -> None:
        """Release all that the process had."""
        if self.ended.done():
            return
        self.is_ready = False
        self.broken = len(self.given)
        self._channel.close()
        for given in list(self.given.values()):
            given.end()
        for number in list(self._forgetting):
            self.forgotten(number)
        self.ended.set_result(None)
        self.on_change()

    async def wait(self) -> int:
        """Kill the process, if it runs still; its exit status."""
        self.kill()
        return await asyncio.to_thread(self._popen.wait)


class HitProcesses:
    """The hit processes of one listener.

    `record` gets each request that they answered, `count` their events and `hit-process-ended`.
    """

    def __init__(
        self,
        command: Sequence[str],
        start: messages.Start,
        number: int,
        *,
        record: Callable[[AccessRecord, str], None],
        count: Callable[[str, int], None],
    ) -> None:
        self.broken = 0
        """Connections that ended with a process while the server stopped."""
        self._draining = asyncio.Event()
        self._command = command
        self._start = start
        self._wanted = number
        self._record = record
        self._count = count
        self._state: ListenerState
        self._processes: list[HitProcess] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count()
        self._fewest: HitProcess | None = None
        """The ready process with the fewest connections."""
        self._given = 0
        """Connections of all processes."""

    @property
    def is_draining(self) -> bool:
        """Whether the server stops."""
        return self._draining.is_set()

    @property
    def memory_bytes(self) -> int:
        """The weight of the renditions in the processes' memory."""
        return sum(process.memory_bytes for process in self._processes)

    def connection(self) -> SharedConnection:
        """A protocol for a connection that was accepted."""
        return SharedConnection(self._state, self)

    def start(self, state: ListenerState) -> None:
        """Start the processes; until they are ready, the server answers alone."""
        self._state = state
        for _ in range(self._wanted):
            self._begin(self._run())

    def has_room(self) -> bool:
        """Whether a process has fewer connections than the server itself. For each hit of the server."""
        fewest = self._fewest
        return fewest is not None and len(fewest.given) < len(self._state.limit) - self._given

    def give(self, fd: int, address: str, unused: int) -> bool:
        """Give a connection to the process with the fewest; False if the server is to keep it."""
        if self._fewest is None or not self.has_room():
            return False
        is_given = self._fewest.give(next(self._numbers), fd, address, unused)
        self._compare()
        return is_given

    async def forget(self, key: str, targets: Iterable[Target]) -> set[str]:
        """Return when no process has one of the renditions in memory: the targets of those that one had."""
        renditions = [(key, str(target)) for target in targets]
        removed: set[str] = set()
        for first in range(0, len(renditions), _MAX_FORGOTTEN):
            some = renditions[first : first + _MAX_FORGOTTEN]
            answers = (one.forget(next(self._numbers), some) for one in self._processes)
            removed.update(*await asyncio.gather(*answers))
        return removed

    def drain(self) -> None:
        """Let the processes return their connections; the server ends them."""
        self._draining.set()
        self._compare()
        for process in self._processes:
            if process.is_ready:
                process.send(messages.Drain())
            else:
                process.kill()

    async def stop(self) -> None:
        """Let the processes send their last records, and end them."""
        self._draining.set()
        processes = list(self._processes)
        for process in processes:
            process.send(messages.Stop())
        if processes:
            await asyncio.wait([process.ended for process in processes], timeout=ANSWER_S)
        for process in processes:
            process.kill()
        for task in list(self._tasks):
            await task

    def _compare(self) -> None:
        """Find the process with the fewest connections, after a change of a process or its connections."""
        ready = [] if self.is_draining else [process for process in self._processes if process.is_ready]
        self._fewest = min(ready, key=lambda process: len(process.given), default=None)
        self._given = sum(len(process.given) for process in self._processes)

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self) -> None:
        """Start a process, wait for its end, and start the next one, until the server stops."""
        loop = asyncio.get_running_loop()
        while not self.is_draining:
            restart_s = loop.time() + _RESTART_S
            try:
                process = HitProcess(self._command, self._start, self._state, self._on_message, self._compare)
            except OSError as error:
                _log.error("a hit process cannot be started: %s", os.strerror(error.errno or 0))
            else:
                self._processes.append(process)
                await process.ended
                self._processes.remove(process)
                status = await process.wait()
                if self.is_draining:
                    self._note_broken(process, status)
                    return
                self._count("hit-process-ended", 1)
                _log.error("the hit process %d ended with status %d; it is replaced", process.pid, status)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(restart_s):
                    await self._draining.wait()

    def _note_broken(self, process: HitProcess, status: int) -> None:
        if process.broken:
            self.broken += process.broken
            text = "the hit process %d ended with status %d and broke %d connections"
            _log.error(text, process.pid, status, process.broken)

    def _on_message(
        self, process: HitProcess, message: messages.Message, data: bytes, connection: socket.socket | None
    ) -> None:
        match message:
            case messages.Ready():
                process.is_ready = True
                self._compare()
            case messages.Data(number) if number in process.given:
                process.given[number].data += data
            case messages.Return(number) if connection is None and number in process.given:
                process.given[number].end()  # no file was free for it, and the kernel has closed it
            case messages.Return(number, is_used) if connection is not None and number in process.given:
                given = process.given[number]
                unused = 0 if is_used else given.unused + 1
                returned = Returned(given, given.data + data, unused)
                self._begin(self._take_back(connection, returned))
            case messages.Closed(number) if number in process.given:
                process.given[number].end()
            case messages.Forgotten(number, removed):
                process.forgotten(number, removed)
            case messages.Records(records, events, memory_bytes):
                process.memory_bytes = memory_bytes
                for one in records:
                    self._record(one.record, one.result)
                for event, times in events.items():
                    self._count(event, times)
            case _:
                _log.error("the hit process %d sent an unexpected %r", process.pid, message)
                process.kill()

    async def _take_back(self, connection: socket.socket, returned: Returned) -> None:
        """Serve a connection that a process has returned."""
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                lambda: SharedConnection(self._state, self, returned), connection
            )
        except OSError:  # the client has ended it meanwhile
            connection.close()
        finally:
            returned.given.end()
