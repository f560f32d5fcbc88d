"""What is said between the server and one worker about one original, and in what time?

A picture at a time, each with the whole deadline. Whoever holds a call decides what becomes of a worker
that is late, gone or talks nonsense; here that is an exception.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from galerly_cdn.errors import Unrenderable, Unsettled, by_code
from galerly_cdn.render.pool import protocol

if TYPE_CHECKING:
    from galerly_cdn.model import Target
    from galerly_cdn.render.pool.scheduling import MemoryBudget
    from galerly_cdn.render.pool.supervisor import Worker

_ERRORS = {code: kind for code, kind in by_code().items() if issubclass(kind, (Unrenderable, Unsettled))}
"""What a worker may answer; anything else is garbage, for a worker is not trusted."""


class Assignment:
    """One order in the hands of one worker. `token` names the original and its version."""

    def __init__(  # noqa: PLR0913 - its parts
        self,
        worker: Worker,
        fd: int,
        order: protocol.Request,
        token: str,
        *,
        budget: MemoryBudget,
        deadline_s: float,
    ) -> None:
        """Give the order. Raises `OSError` when the worker is gone."""
        self.worker = worker
        self.token = token
        self._order = order
        self._budget = budget
        self._deadline_s = deadline_s
        self._weight_bytes = 0
        self._awaited: set[Target] = {one.target for one in order.job.pictures} if order.job else set()
        worker.order(order, fd)
        self._answer = worker.next_answer()

    @property
    def is_over(self) -> bool:
        """Whether the order is fulfilled."""
        return not self._awaited

    async def first(self) -> tuple[protocol.Done, bytes]:
        """The facts, or the first picture. Raises as `picture` does."""
        began_s = _now()
        async with asyncio.timeout(self._deadline_s):
            words, body = await self._answer
        if not isinstance(words, protocol.MemoryNeeded) or self._order.job is None:
            return self._judge(words, body)
        self._weight_bytes = words.weight_bytes
        return await self.picture(spent_s=_now() - began_s)

    async def picture(self, spent_s: float = 0) -> tuple[protocol.Done, bytes]:
        """The next picture, in the deadline but for what is spent of it.

        Raises the original's error, `TimeoutError`, `EOFError` or `OSError` when the worker has ended, and
        `wire.Garbage` unless the answer fits.
        """
        async with self._budget.share(self._weight_bytes):  # to wait for others is no fault of this original
            async with asyncio.timeout(self._deadline_s - spent_s):
                self._answer = self.worker.next_answer()
                self.worker.go_on()
                words, body = await self._answer
        return self._judge(words, body)

    def _judge(self, words: protocol.Message, body: bytes) -> tuple[protocol.Done, bytes]:
        """The result, or the error it stands for. Raises `Garbage` unless it fits the order."""
        if not isinstance(words, (protocol.Done, protocol.Failed)):
            raise protocol.ProtocolError(repr(words))
        self.worker.answers += 1
        self.worker.resident_bytes = words.resident_bytes
        if isinstance(words, protocol.Failed):
            if words.code not in _ERRORS:
                raise protocol.ProtocolError(f"{words.code}: {words.detail}")
            raise _ERRORS[words.code](words.detail)
        if not self._fits(words, body):
            raise protocol.ProtocolError(repr(words))
        self.worker.is_paused = bool(self._awaited)
        return words, body

    def _fits(self, words: protocol.Done, body: bytes) -> bool:
        """Whether it is what was ordered and is still awaited."""
        if self._order.job is None:
            return words.facts is not None
        rendered = words.rendered
        if rendered is None or rendered.length_bytes != len(body) or rendered.target not in self._awaited:
            return False
        self._awaited.remove(rendered.target)
        return True


def _now() -> float:
    return asyncio.get_running_loop().time()
