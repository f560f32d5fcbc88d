"""Breaks parts of a fleet under load, and mends them. Each fault is applied to a fleet that is well."""

from __future__ import annotations

import os
import random
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.support.faulty_proxy import Faults

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.faulty_proxy import StoreProxy
    from tests.support.fleet import Fleet, Node
    from tests.support.fleet_load import Load


@dataclass
class Stage:
    """A fleet under load, and what its store's faults need. `answers` is how many each phase waits for."""

    fleet: Fleet
    load: Load
    answers: int
    frozen_s: float = 30.0
    proxy: StoreProxy | None = None

    def continue_load(self) -> None:
        self.load.wait_for(self.answers)


class Fault(NamedTuple):
    """What happens to the fleet, and whether misses may fail meanwhile. Hits never may."""

    apply: Callable[[Stage], None]
    misses_may_fail: bool = False


def _kill_nodes(stage: Stage) -> None:
    for node in stage.fleet.nodes:
        stage.continue_load()
        node.kill()
        stage.continue_load()
        node.start()


def _restart_nodes(stage: Stage) -> None:
    for node in stage.fleet.nodes:
        stage.continue_load()
        node.stop()
        stage.continue_load()
        node.start()


def _add_and_remove_a_node(stage: Stage) -> None:
    stage.continue_load()
    added = stage.fleet.add_node()
    stage.fleet.reload()
    stage.continue_load()
    stage.fleet.nodes.remove(added)
    stage.fleet.reload()
    stage.continue_load()
    added.stop()


def _reload_fronts(stage: Stage) -> None:
    for _ in range(5):
        stage.continue_load()
        stage.fleet.reload()


def _kill_a_front(stage: Stage) -> None:
    stage.continue_load()
    front = stage.fleet.fronts[1]
    front.kill()
    stage.continue_load()
    front.start(stage.fleet.nodes)


def _freeze_the_store(stage: Stage) -> None:
    store = stage.fleet.bucket.server.process
    assert store
    stage.continue_load()
    store.send_signal(signal.SIGSTOP)
    stage.load.wait_s(stage.frozen_s)
    store.send_signal(signal.SIGCONT)


def _refuse_connections_to_the_store(stage: Stage) -> None:
    assert stage.proxy
    stage.continue_load()
    stage.proxy.stop()
    stage.load.wait_s(stage.frozen_s / 3)
    stage.proxy.start()


def _store_faults(faults: Faults) -> Callable[[Stage], None]:
    def apply(stage: Stage) -> None:
        assert stage.proxy
        stage.continue_load()
        stage.proxy.change(faults)
        stage.load.wait_s(stage.frozen_s / 3)
        stage.proxy.change(Faults())

    return apply


def _kill_workers(stage: Stage) -> None:
    chosen = random.Random(18)  # the same order in each run
    for _ in range(20):
        workers = [pid for node in stage.fleet.nodes for pid in worker_pids(node)]
        if workers:
            os.kill(chosen.choice(workers), signal.SIGKILL)
        stage.load.wait_s(stage.frozen_s / 60)


def worker_pids(node: Node) -> list[int]:
    """The render workers of a node, which may be children of its children."""
    found, unseen = [], [node.process.pid]
    for pid in unseen:
        try:
            children = [
                int(child)
                for thread in Path(f"/proc/{pid}/task").iterdir()
                for child in (thread / "children").read_text().split()
            ]
            if pid != node.process.pid and not children:
                found.append(pid)
        except OSError:  # it has ended
            continue
        unseen += children
    return found


FAULTS = {
    "each node is killed (kill -9)": Fault(_kill_nodes),
    "each node is restarted in turn (SIGTERM)": Fault(_restart_nodes),
    "a node is added and removed": Fault(_add_and_remove_a_node),
    "both fronts are reloaded five times": Fault(_reload_fronts),
    "a front is killed (kill -9)": Fault(_kill_a_front),
}
"""Parts that fail or are replaced, while viewers notice nothing."""
STORE_FAULTS = {
    "the store is frozen": Fault(_freeze_the_store, misses_may_fail=True),
    "the store refuses connections": Fault(_refuse_connections_to_the_store, misses_may_fail=True),
    "half of the store's answers are 503": Fault(_store_faults(Faults(unavailable_every=2)), True),
    "renditions cannot be stored: the disk is full": Fault(_store_faults(Faults(full="/resized/")), True),
    "workers are killed at random": Fault(_kill_workers, misses_may_fail=True),
}
"""Faults in which a picture that nobody has seen may fail; those that fronts and nodes have never do."""
