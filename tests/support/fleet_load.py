"""Sends bounded load through the fronts of a fleet, and judges every answer.

Hot pictures are requested again and again; a cold picture is requested once. Each photograph has sides of
its own, so that a picture of another photograph is noticed.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import itertools
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Self

from PIL import Image

from tests.support import pictures

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.support.fleet import Fleet
    from tests.support.s3_servers import Objects

HOT = 6
UNLIMITED = {"misses_per_minute": 0, "misses_per_minute_per_client": 0}
"""Settings of nodes for which all viewers are on one machine."""
_SHORTEST_PX, _WIDTHS = 40, 100
_SIZES = ("tiny", "280x280", "small", "540x540", "thumbnail", "880x880", "1200x1200", "medium", "2560x2560")
_FORMATS = ("jpeg", "webp", "png")
_TIMEOUT_S = 60.0
_SLOW_S = 1.0
_PAUSE_S = 0.01
"""Between two requests of a viewer: the load is bounded, so that fronts and nodes are not short of CPU."""


class Wanted(NamedTuple):
    """A picture that is requested, and the sides that it must have."""

    path: str
    sides_px: tuple[int, int]
    is_hot: bool


class Judged(NamedTuple):
    """What came of a request: a problem in words, empty if the picture is right."""

    wanted: Wanted
    problem: str
    began_s: float
    ended_s: float
    fronts: int
    """How many fronts were asked; a viewer asks the next one if the connection fails."""

    @property
    def is_wrong(self) -> bool:
        """Whether bytes were shown that are not the picture's."""
        return self.problem.startswith("wrong")


def _sides_px(number: int) -> tuple[int, int]:
    """The sides of a photograph. The smallest size of the allow-list is larger, so pictures have them too."""
    return _SHORTEST_PX + number % _WIDTHS, _SHORTEST_PX + number // _WIDTHS


def _path(segment: str, number: int) -> str:
    return f"/resize/{segment}/{_key(number)}"


def _key(number: int) -> str:
    return f"load-{number}/a.jpg"


def put_photographs(bucket: Objects, photographs: int) -> None:
    for number in range(photographs):
        bucket.put(f"originals/{_key(number)}", pictures.jpeg(*_sides_px(number)))


def hot_pictures() -> list[Wanted]:
    """Pictures of the first photographs."""
    return [Wanted(_path("tiny.webp", number), _sides_px(number), True) for number in range(HOT)]


def cold_pictures(photographs: int) -> Iterator[Wanted]:
    """Each picture of the other photographs once: 27 of each."""
    for form, size, number in itertools.product(_FORMATS, _SIZES, range(HOT, photographs)):
        yield Wanted(_path(f"{size}.{form}", number), _sides_px(number), False)


def problem_of(wanted: Wanted, status: int, etag: str, body: bytes) -> str:
    """What is wrong with an answer, in words; empty if nothing is."""
    if status != 200:
        return f"{status}"
    if etag != f'"{hashlib.md5(body).hexdigest()}"':
        return "wrong bytes: their MD5 is not the ETag"
    sides_px = Image.open(io.BytesIO(body)).size
    if sides_px != wanted.sides_px:
        return f"wrong picture: {sides_px}"
    return ""


@dataclass
class Viewer:
    """A client with a connection to one front at a time; if that fails, it asks the next one."""

    ports: Sequence[int]
    first: int
    _connection: http.client.HTTPConnection | None = None
    _at: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._at = self.first

    def view(self, wanted: Wanted) -> Judged:
        began_s = time.monotonic()
        problem, asked = "", 0
        while asked <= len(self.ports):  # once more: a kept connection may have been closed while it was idle
            asked += 1
            try:
                problem = self._ask(wanted)
            except (OSError, http.client.HTTPException) as error:
                problem = f"no answer: {type(error).__name__}"
                self.close()
                self._at += 1
                continue
            break
        return Judged(wanted, problem, began_s, time.monotonic(), asked)

    def _ask(self, wanted: Wanted) -> str:
        if self._connection is None:
            port = self.ports[self._at % len(self.ports)]
            self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
        self._connection.request("GET", wanted.path, headers={"Host": "cdn.test"})
        response = self._connection.getresponse()
        body = response.read()  # raises IncompleteRead for fewer bytes than Content-Length
        if response.will_close:
            self.close()
        return problem_of(wanted, response.status, response.headers.get("ETag", ""), body)

    def close(self) -> None:
        if self._connection:
            self._connection.close()
        self._connection = None


class Summary(NamedTuple):
    """What viewers got while a fault lasted and until the load ended."""

    hits: int
    misses: int
    failed_hits: tuple[str, ...]
    failed_misses: tuple[str, ...]
    wrong: tuple[str, ...]
    slowest_hit_s: float
    recovery_s: float
    """From the end of the fault until the last answer that failed or took longer than 1 s."""
    moved: int
    """Requests that were answered by another front than the first that was asked."""


class Load:
    """Viewers who request hot and cold pictures until `stop`."""

    def __init__(self, fleet: Fleet, cold: Iterator[Wanted], viewers: int = 2) -> None:
        self._ports = [front.port for front in fleet.fronts]
        self._cold = cold
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self.judged: list[Judged] = []
        kinds = (self._view_hot, self._view_cold)
        self._threads = [
            threading.Thread(target=kind, args=(number,)) for kind in kinds for number in range(viewers)
        ]
        self.healed_s = float("inf")

    def _view_hot(self, number: int) -> None:
        self._view(number, itertools.cycle(hot_pictures()))

    def _view_cold(self, number: int) -> None:
        def cold() -> Iterator[Wanted]:
            while wanted := self._next_cold():
                yield wanted

        self._view(number, cold())

    def _next_cold(self) -> Wanted | None:
        with self._lock:
            return next(self._cold, None)

    def _view(self, number: int, wanted: Iterator[Wanted]) -> None:
        viewer = Viewer(self._ports, number)
        with contextlib.closing(viewer):
            for one in wanted:
                self.judged.append(viewer.view(one))
                if self._stopped.wait(_PAUSE_S):
                    break

    def __enter__(self) -> Self:
        for port in self._ports:  # so that hot pictures are hits of every front
            with contextlib.closing(Viewer([port], 0)) as viewer:
                for wanted in hot_pictures():
                    assert not (problem := viewer.view(wanted).problem), problem
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, answers: int) -> None:
        """Wait until so many more pictures were answered, cold ones among them."""
        begun = len(self.judged)
        while True:
            new = self.judged[begun:]
            kinds = Counter(one.wanted.is_hot for one in new)
            if len(new) >= answers and kinds[False]:
                return
            assert all(thread.is_alive() for thread in self._threads), "no cold picture is left"
            self._stopped.wait(_PAUSE_S)

    def wait_s(self, duration_s: float) -> None:
        """Let the load go on."""
        self._stopped.wait(duration_s)

    def healed(self) -> None:
        """Note that the fault has ended."""
        self.healed_s = time.monotonic()

    def summary(self) -> Summary:
        """Of everything that was requested so far."""
        judged = list(self.judged)
        hot = [one for one in judged if one.wanted.is_hot]
        cold = [one for one in judged if not one.wanted.is_hot]
        late_s = [
            one.ended_s - self.healed_s
            for one in judged
            if one.ended_s > self.healed_s and (one.problem or one.ended_s - one.began_s > _SLOW_S)
        ]
        return Summary(
            hits=len(hot),
            misses=len(cold),
            failed_hits=tuple(one.problem for one in hot if one.problem and not one.is_wrong),
            failed_misses=tuple(one.problem for one in cold if one.problem and not one.is_wrong),
            wrong=tuple(f"{one.wanted.path}: {one.problem}" for one in judged if one.is_wrong),
            slowest_hit_s=max((one.ended_s - one.began_s for one in hot), default=0.0),
            recovery_s=max(late_s, default=0.0),
            moved=sum(one.fronts > 1 for one in judged),
        )
