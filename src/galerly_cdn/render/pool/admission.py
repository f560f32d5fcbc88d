"""Admits viewers' calls: how many hold their originals at a time, how long others wait, who is refused.

An admitted call may open its original, which a remote store has to send first, and then waits for a worker.
Only as many are admitted as there are workers, and a few more, so that no worker waits for a download. The
others wait here, without their originals. A call is refused at once if it would wait too long, by the recent
times of such renders. It does no I/O; the clock is injected.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from galerly_cdn.errors import QueueFull

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

_DECAY = 0.95
"""The weight of an earlier render beside the next one: the last twenty count most."""
_COST_DECAY = 0.99
"""The same for the cost of a kind, which does not change: a new pace must not pass for a new cost."""
_FIXED_BYTES = 2 * 1024 * 1024
"""What a render costs whatever its original, in bytes of an original: scaling and encoding."""
_FIRST_RATE_S = 25e-9
"""The seconds for each byte before the first render: 24 megapixels (7 MB) take a quarter of a second."""
_SHARE = 0.8
"""The share of the longest wait that may be planned: the expected times are means."""
_DOUBT = 2.0
"""The renders of a kind that count as much as the assumption that it costs as much as any other."""
_MIN_LOOK_AHEAD = 4


class Work(NamedTuple):
    """What decides how long a call takes: the target, None for an inspection; the original's length."""

    kind: Hashable
    length_bytes: int

    @property
    def weight_bytes(self) -> int:
        """The length, with the costs that do not depend on it."""
        return self.length_bytes + _FIXED_BYTES


class Bounds(NamedTuple):
    """The bounds of all calls that wait for a worker."""

    max_calls: int
    max_bytes: int
    max_wait_s: float


class _Ratio:
    """The ratio of two sums in which earlier values count less than later ones."""

    def __init__(self, ratio: float, weight: float, decay: float) -> None:
        self._above, self._below = ratio * weight, weight
        self._decay = decay

    @property
    def value(self) -> float:
        return self._above / self._below

    def add(self, above: float, below: float) -> None:
        self._above = self._above * self._decay + above
        self._below = self._below * self._decay + below


class RenderTimes:
    """The expected time of a render: its weight, times the cost of its kind, times the machine's pace.

    The pace is learned from all renders, so that a machine that becomes slower is known at once for every
    kind; the cost of a kind from its own, in relation to the pace.
    """

    def __init__(self) -> None:
        self._pace_s = _Ratio(_FIRST_RATE_S, 1.0, _DECAY)
        self._costs: dict[Hashable, _Ratio] = {}

    def rate_s(self, kind: Hashable) -> float:
        """The expected seconds for each byte of weight."""
        return self._pace_s.value * self._cost(kind)

    def record(self, work: Work, seconds: float) -> None:
        """Note how long a worker was occupied."""
        weight = work.weight_bytes
        self._pace_s.add(seconds, weight * self._cost(work.kind))
        if pace_s := self._pace_s.value:
            cost = self._costs.setdefault(work.kind, _Ratio(1.0, _DOUBT * weight, _COST_DECAY))
            cost.add(seconds / pace_s, weight)

    def _cost(self, kind: Hashable) -> float:
        return cost.value if (cost := self._costs.get(kind)) else 1.0


class Place:
    """The place of an admitted call."""

    def __init__(self, work: Work, entered_s: float) -> None:
        self.work = work
        self.entered_s = entered_s
        self.admitted_s = 0.0
        self.started_s: float | None = None
        """When it got its worker."""


class Admission:
    """Admits calls first come, first served."""

    def __init__(self, workers: int, bounds: Bounds, clock: Callable[[], float]) -> None:
        self._workers = workers
        self._places = workers + max(_MIN_LOOK_AHEAD, 2 * workers)
        self._bounds = bounds
        self._clock = clock
        self._times = RenderTimes()
        self._place_s = 0.0
        self._admitted: set[Place] = set()
        self._waiting: dict[asyncio.Future[None], Place] = {}
        self._waiting_weights: Counter[Hashable] = Counter()
        self._waiting_bytes = 0

    @property
    def waiting(self) -> int:
        """The number of calls that wait to be admitted."""
        return len(self._waiting)

    def oldest_wait_s(self) -> float:
        """How long the oldest call that has no worker yet has waited; 0 if there is none.

        An admitted call may be opening its original meanwhile.
        """
        first_waiting = next(iter(self._waiting.values()), None)
        no_worker = [place.entered_s for place in self._admitted if place.started_s is None]
        if first_waiting is not None:
            no_worker.append(first_waiting.entered_s)
        return self._clock() - min(no_worker) if no_worker else 0.0

    def expected_wait_s(self) -> float:
        """How long a further call would wait for a worker.

        The work ahead of it is shared by all workers. Where the store is slower than they are, the places
        are what is waited for.
        """
        if len(self._admitted) < self._workers:
            return 0.0
        now_s = self._clock()
        ahead_s = sum(self._remaining_s(place, now_s) for place in self._admitted)
        ahead_s += sum(weight * self._times.rate_s(kind) for kind, weight in self._waiting_weights.items())
        if len(self._admitted) < self._places:
            return ahead_s / self._workers
        return max(ahead_s / self._workers, (len(self._waiting) + 1) * self._place_s / self._places)

    async def enter(self, work: Work) -> Place:
        """Wait for a place. Raises `QueueFull` at once if the wait would be too long, or when it is."""
        expected_s = self.expected_wait_s()
        self._check(work, expected_s)
        place = Place(work, self._clock())
        if not self._waiting and len(self._admitted) < self._places:
            self._admit(place)
            return place
        future = asyncio.get_running_loop().create_future()
        self._waiting[future] = place
        self._waiting_weights[work.kind] += work.weight_bytes
        self._waiting_bytes += work.length_bytes
        try:
            async with asyncio.timeout(self._bounds.max_wait_s):
                await future
        except BaseException as error:
            if self._waiting.get(future) is place:
                self._remove(future)
            elif future.done() and not future.cancelled() and not future.exception():
                self.leave(place)  # it was admitted in the same moment
            if isinstance(error, TimeoutError):
                expected_s = self.expected_wait_s()
                raise QueueFull(f"it waited {self._bounds.max_wait_s:g} s for a worker", expected_s) from None
            raise
        return place

    def start(self, place: Place) -> None:
        """Note that a worker has begun the call."""
        place.started_s = self._clock()

    def leave(self, place: Place) -> None:
        """Give the place to the next call: this one is over. A second time, do nothing."""
        if place not in self._admitted:
            return
        self._admitted.remove(place)
        now_s = self._clock()
        self._place_s += (1 - _DECAY) * (now_s - place.admitted_s - self._place_s)
        if place.started_s is not None:
            self._times.record(place.work, now_s - place.started_s)
        while self._waiting and len(self._admitted) < self._places:
            future = next(iter(self._waiting))
            next_place = self._remove(future)
            if not future.done():
                self._admit(next_place)
                future.set_result(None)

    def fail_waiting(self, error: Exception) -> None:
        """Raise `error` in every call that waits."""
        for future in list(self._waiting):
            self._remove(future)
            if not future.done():
                future.set_exception(error)

    def _check(self, work: Work, expected_s: float) -> None:
        """Raises `QueueFull` if a call that has to wait exceeds a bound."""
        waiting = len(self._admitted) + len(self._waiting) - self._workers
        if waiting < 0:
            return
        not_started = (place.work.length_bytes for place in self._admitted if place.started_s is None)
        waiting_bytes = self._waiting_bytes + sum(not_started) + work.length_bytes
        if (
            expected_s > _SHARE * self._bounds.max_wait_s
            or waiting >= self._bounds.max_calls
            or waiting_bytes > self._bounds.max_bytes
        ):
            detail = (
                f"{waiting} calls wait, {waiting_bytes} bytes with this one; it would wait {expected_s:.1f} s"
            )
            raise QueueFull(detail, expected_s)

    def _remaining_s(self, place: Place, now_s: float) -> float:
        """What a call still takes. One that is late by some time is expected to need as much again."""
        expected_s = place.work.weight_bytes * self._times.rate_s(place.work.kind)
        return expected_s if place.started_s is None else abs(expected_s - (now_s - place.started_s))

    def _admit(self, place: Place) -> None:
        place.admitted_s = self._clock()
        self._admitted.add(place)

    def _remove(self, future: asyncio.Future[None]) -> Place:
        place = self._waiting.pop(future)
        self._waiting_bytes -= place.work.length_bytes
        self._waiting_weights[place.work.kind] -= place.work.weight_bytes
        if not self._waiting_weights[place.work.kind]:
            del self._waiting_weights[place.work.kind]
        return place
