"""Runs one request on one worker: sends it, reserves memory, applies the deadline, checks the responses.

The deadline applies to each picture. A worker that is late, has ended or breaks the protocol is reported
as an exception; the pool decides what happens to the worker.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from galerly_cdn.errors import DiskError, Unrenderable, Unsettled, by_code
from galerly_cdn.render import refusals
from galerly_cdn.render.pool import protocol
from galerly_cdn.render.pool.worker_state import Event

if TYPE_CHECKING:
    from collections.abc import Callable

    from galerly_cdn.model import Learn, Target
    from galerly_cdn.render.pool.scheduling import MemoryBudget
    from galerly_cdn.render.pool.supervisor import Worker

_OF_READING = {kind.code: kind for kind in (DiskError, Unsettled)}
_CODES = {code for code, kind in by_code().items() if issubclass(kind, Unrenderable)} | set(_OF_READING)
"""The errors that a worker may report. It is not trusted: any other code is a protocol error."""
_MAX_PUBLIC_CHARACTERS = 300
"""The longest sentence of a worker that is sent to viewers."""


class Assignment:
    """One request on one worker. `token` names the original and its version."""

    def __init__(  # noqa: PLR0913 - its parts
        self,
        worker: Worker,
        fd: int,
        request: protocol.Request,
        token: str,
        *,
        budget: MemoryBudget,
        deadline_s: float,
        learn: Learn,
        observe: Callable[[str, float], None],
    ) -> None:
        """Send the request. Raises `OSError` when the worker has ended.

        `learn` is called with the original's facts when they arrive, also with an error; `observe` with the
        kind of the original, and the seconds until the first picture of a job was made.
        """
        self.worker = worker
        self.token = token
        self._request = request
        self._budget = budget
        self._deadline_s = deadline_s
        self._learn = learn
        self._observe = observe
        self._memory_bytes = 0
        self._remaining: set[Target] = {one.target for one in request.job.pictures} if request.job else set()
        self._response = worker.start_request(request, fd)

    @property
    def is_complete(self) -> bool:
        """Whether every picture of the job has been made."""
        return not self._remaining

    async def first_result(self) -> tuple[protocol.Done, bytes]:
        """Return the facts, or the first picture. Raises as `next_picture` does."""
        start_s = _now()
        async with asyncio.timeout(self._deadline_s):
            message, body = await self._response
        if not isinstance(message, protocol.MemoryNeeded) or self._request.job is None:
            return self._checked(message, body)
        self._memory_bytes = message.memory_bytes
        return await self.next_picture(spent_s=_now() - start_s, first_of=message.kind)

    async def next_picture(self, spent_s: float = 0, first_of: str = "") -> tuple[protocol.Done, bytes]:
        """Return the next picture; `spent_s` of its deadline have passed already.

        `first_of` is the kind of the original if it is the job's first picture. Raises the original's error,
        `TimeoutError`, `EOFError` or `OSError` when the worker has ended, and `protocol.ProtocolError` if the
        response does not fit the request.
        """
        async with self._budget.reserve(self._memory_bytes):  # waiting for memory does not count as rendering
            start_s = _now()
            async with asyncio.timeout(self._deadline_s - spent_s):
                message, body = await self.worker.continue_job()
            made_s = _now()
        checked = self._checked(message, body)
        if first_of:
            self._observe(first_of, spent_s + made_s - start_s)
        return checked

    def _checked(self, message: protocol.Message, body: bytes) -> tuple[protocol.Done, bytes]:
        """Return the result or raise the error it reports. Raises `ProtocolError` for an invalid response."""
        if not isinstance(message, (protocol.Done, protocol.Failed)):
            raise protocol.ProtocolError(f"expected Done or Failed, received {message!r}")
        self.worker.responses += 1
        self.worker.resident_bytes = message.resident_bytes
        if isinstance(message, protocol.Failed):
            if message.code not in _CODES:
                raise protocol.ProtocolError(f"{message.code}: {message.detail}")
            if message.facts is not None:
                self._learn(message.facts)
            if message.code in _OF_READING:
                raise _OF_READING[message.code](message.detail)
            raise refusals.of_code(message.code, message.detail, message.public[:_MAX_PUBLIC_CHARACTERS])
        if not self._fits_request(message, body):
            raise protocol.ProtocolError(f"the response does not fit the request: {message!r}")
        if message.facts is not None:
            self._learn(message.facts)
        if self._remaining:
            self.worker.apply(Event.PAUSE)
        return message, body

    def _fits_request(self, message: protocol.Done, body: bytes) -> bool:
        """Return whether it was requested and has not been made before; record a picture as made."""
        if self._request.job is None:
            return message.facts is not None
        rendered = message.rendered
        if rendered is None or rendered.length_bytes != len(body) or rendered.target not in self._remaining:
            return False
        self._remaining.remove(rendered.target)
        return True


def _now() -> float:
    return asyncio.get_running_loop().time()
