"""Compares a fleet with a dictionary under random events: no picture is wrong, none older than allowed.

A front uses an entry for 10 s. Instead of waiting, a rule makes the entries of all fronts as old as after
that time. `FLEET_EXAMPLES` is the number of random sequences.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from PIL import Image

from tests.support import exhaustive, pictures
from tests.support.faulty_proxy import Faults, StoreProxy
from tests.support.fleet import TOKEN, Fleet, start_all
from tests.support.fleet_load import UNLIMITED
from tests.support.shapes import send_request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.s3_servers import S3Server
    from tests.support.shapes import Answer

pytestmark = [pytest.mark.server("nginx", "versitygw"), pytest.mark.timeout(900)]

EXAMPLES = int(os.environ.get("FLEET_EXAMPLES", exhaustive.count(4, sample=2)))
STEPS = 25
PHOTOGRAPHS = {sides: pictures.jpeg(*sides) for sides in [(60, 40), (40, 60), (50, 50), (70, 30)]}
KEYS = st.sampled_from(["a.jpg", "é #1.jpg"])
SIDES = st.sampled_from(sorted(PHOTOGRAPHS))
SEGMENTS = st.sampled_from(["tiny", "150x150", "small.webp"])
FRONTS = st.integers(0, 1)
NODES = st.integers(0, 1)
Sides = tuple[int, int]

_galleries = itertools.count(1)


class Machine(RuleBasedStateMachine):
    """`stored` has the sides of each photograph; `shown` the former ones that fronts may still show."""

    fleet: Fleet
    proxy: StoreProxy

    def __init__(self) -> None:
        super().__init__()
        self.gallery = f"states-{next(_galleries)}"
        self.stored: dict[str, Sides | None] = {}
        self.shown: dict[str, set[Sides | None]] = {}

    def _change(self, key: str, sides: Sides | None) -> None:
        self.shown.setdefault(key, set()).add(self.stored.get(key))
        self.stored[key] = sides

    def _administer(self, node: int, method: str, path: str, body: bytes = b"") -> Answer:
        port = self.fleet.nodes[node].admin_port
        headers = {"Content-Length": str(len(body)), "Authorization": f"Bearer {TOKEN}"}
        return send_request(port, method, path, headers, body)

    def _key(self, key: str) -> str:
        return f"{self.gallery}/{key}"

    def _quoted(self, key: str) -> str:
        return self._key(key).replace(" #", "%20%23").replace("é", "%C3%A9")

    # changes

    @rule(key=KEYS, sides=SIDES | st.none(), segment=SEGMENTS, expires=st.booleans())
    def change_by_another_client(self, key: str, sides: Sides | None, segment: str, *, expires: bool) -> None:
        """Fronts show it when their entries have expired, and may show it before."""
        self._get_from_all(key, segment)
        if sides is None:
            self.fleet.bucket.remove(f"originals/{self._key(key)}")
        else:
            self.fleet.bucket.put(f"originals/{self._key(key)}", PHOTOGRAPHS[sides])
        self._change(key, sides)
        self._get_from_all(key, segment)
        if expires:
            self.get_after_expiry(key, segment)

    @rule(node=NODES, key=KEYS, sides=SIDES, segment=SEGMENTS)
    def replace(self, node: int, key: str, sides: Sides, segment: str) -> None:
        """Fronts show a replacement at once, and what is new although they had it as missing."""
        self._get_from_all(key, segment)
        path = f"/originals/{self._quoted(key)}?replace=true"
        answer = self._administer(node, "PUT", path, PHOTOGRAPHS[sides])
        assert answer.status in {200, 201}
        self._change(key, sides)
        self.shown.pop(key)
        self._get_from_all(key, segment)

    @rule(node=NODES, key=KEYS, segment=SEGMENTS)
    def delete(self, node: int, key: str, segment: str) -> None:
        """Fronts show at once that it is gone."""
        self._get_from_all(key, segment)
        answer = self._administer(node, "DELETE", f"/originals/{self._quoted(key)}")
        existed = self.stored.get(key) is not None
        assert json.loads(answer.body)["existed"] == existed
        self._change(key, None)
        if existed:
            self.shown.pop(key)
        self._get_from_all(key, segment)

    @rule(node=NODES, key=KEYS)
    def purge(self, node: int, key: str) -> None:
        assert self._administer(node, "POST", f"/purge/{self._quoted(key)}").status == 200

    @rule()
    def let_entries_expire(self) -> None:
        for front in self.fleet.fronts:
            front.expire()
        self.shown.clear()

    # viewers

    @rule(front=FRONTS, key=KEYS, segment=SEGMENTS)
    def get(self, front: int, key: str, segment: str) -> None:
        sides = self._view(front, key, segment)
        assert sides in {self.stored.get(key)} | self.shown.get(key, set())

    @rule(key=KEYS, segment=SEGMENTS)
    def get_after_expiry(self, key: str, segment: str) -> None:
        """What every front shows then is what the store has."""
        self.let_entries_expire()
        for front in range(2):
            assert self._view(front, key, segment) == self.stored.get(key)

    def _get_from_all(self, key: str, segment: str) -> None:
        for front in range(2):
            self.get(front, key, segment)

    def _view(self, front: int, key: str, segment: str, *failures: int) -> Sides | int | None:
        """The sides of the picture, None for a correct 404, or one of `failures`."""
        port = self.fleet.fronts[front].port
        answer = send_request(port, "GET", f"/resize/{segment}/{self._quoted(key)}", {"Host": "cdn.test"})
        if answer.status in failures:
            return answer.status
        if answer.status == 404:
            assert json.loads(answer.body)["error"]["code"] == "no-such-original"
            return None
        assert answer.status == 200, answer
        assert answer.headers["etag"] == f'"{hashlib.md5(answer.body).hexdigest()}"'
        assert int(answer.headers["content-length"]) == len(answer.body)
        wide_px, high_px = Image.open(io.BytesIO(answer.body)).size
        return wide_px, high_px

    # parts that fail or are replaced

    @rule(node=NODES, front=FRONTS, key=KEYS, segment=SEGMENTS, is_killed=st.booleans())
    def a_node_is_away(self, node: int, front: int, key: str, segment: str, *, is_killed: bool) -> None:
        if is_killed:
            self.fleet.nodes[node].kill()
        else:
            self.fleet.nodes[node].stop()
        self.get(front, key, segment)
        self.fleet.nodes[node].start()
        self._reload()

    @precondition(lambda self: len(self.fleet.nodes) == 2)
    @rule()
    def add_a_node(self) -> None:
        self.fleet.add_node()
        self._reload()

    @precondition(lambda self: len(self.fleet.nodes) > 2)
    @rule()
    def remove_a_node(self) -> None:
        removed = self.fleet.nodes.pop()
        self._reload()
        removed.stop()

    @rule(front=FRONTS)
    def restart_a_front(self, front: int) -> None:
        self.fleet.fronts[front].kill()
        self.fleet.fronts[front].start(self.fleet.nodes)

    def _reload(self) -> None:
        """Start the fronts again with the nodes that there are; a front forgets then which node failed."""
        for front in self.fleet.fronts:
            front.stop()
            front.start(self.fleet.nodes)

    @rule(front=FRONTS, key=KEYS, segment=SEGMENTS, is_refusing=st.booleans())
    def the_store_fails(self, front: int, key: str, segment: str, *, is_refusing: bool) -> None:
        """Meanwhile an older picture may be shown; afterwards none, once nodes have asked the store again."""
        if is_refusing:
            self.proxy.stop()
        else:
            self.proxy.change(Faults(unavailable_every=1))
        for asked in (self.fleet.fronts[front], self.fleet.fronts[1 - front]):
            asked.expire()
        shown = self._view(front, key, segment, 502, 503)
        assert isinstance(shown, int) or shown in {self.stored.get(key), None, *PHOTOGRAPHS}
        if is_refusing:
            self.proxy.start()
        else:
            self.proxy.change(Faults())
        for node in self.fleet.nodes:
            node.stop()
        start_all(self.fleet.nodes)
        self._reload()
        self.get_after_expiry(key, segment)

    def teardown(self) -> None:
        while len(self.fleet.nodes) > 2:
            self.remove_a_node()


@contextmanager
def running(root: Path, server: S3Server) -> Iterator[tuple[Fleet, StoreProxy]]:
    """A fleet whose store can fail, and whose nodes ask it about every picture."""
    proxy = StoreProxy(urlsplit(server.endpoint).port or 0)
    proxy.start()
    values = {**UNLIMITED, "store_endpoint": proxy.address, "store_fresh_s": 0}
    with closing(Fleet(root, server.bucket(), values)) as fleet:
        try:
            fleet.start()
            yield fleet, proxy
        finally:
            proxy.stop()


def test_any_sequence_of_events_shows_no_wrong_picture_and_none_that_is_too_old(
    tmp_path: Path, versitygw: S3Server
) -> None:
    with running(tmp_path, versitygw) as (fleet, proxy):

        class Tested(Machine):
            pass

        Tested.fleet, Tested.proxy = fleet, proxy
        run_state_machine_as_test(
            Tested,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                phases=[Phase.reuse, Phase.generate],  # a sequence takes too long to be shortened
            ),
        )
