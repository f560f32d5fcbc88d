"""Defines the states of a worker process, the events that change them, and every allowed transition.

A worker has a *phase* (what its process is doing) and a *replacement* (whether another process takes
its place). Both are changed only by `next_state`, which refuses an event that is impossible in the
current state. The module is pure: `supervisor.Worker` performs the effects.

    STARTING ──READY──▸ FREE ──REQUEST──▸ WORKING ──RESPONSE──▸ RESPONDED ──RELEASE──▸ FREE
                                             ▴ ▴                 │     │
                                             │ └────CONTINUE─────┘   PAUSE
                                             │                         ▾
                                             └──REQUEST, CONTINUE── PAUSED ──RELEASE──▸ FREE
"""

from __future__ import annotations

import enum
import signal
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Phase(enum.Enum):
    """What a worker process is doing, or how it ended."""

    STARTING = "started; its Ready message is expected"
    FREE = "has no request"
    WORKING = "has a request; exactly one message is expected from it"
    RESPONDED = "has sent that message; the server has not decided what comes next"
    PAUSED = "between two pictures of a job; another request may end the job"
    STOPPING = "asked to end, with a grace period"
    START_FAILED = "ended before its Ready message"
    CRASHED = "ended by itself, or killed for a protocol error"
    TIMED_OUT = "killed because a response missed its deadline"
    DISCARDED = "killed because the pool closes"


class Replacement(enum.Enum):
    """Whether another process takes a worker's place while it still serves."""

    NONE = "not needed"
    STARTING = "the worker is worn, its replacement is starting"
    READY = "the replacement is ready; the worker stops as soon as it is free"


class Event(enum.Enum):
    """What can happen to a worker."""

    READY = "it sent its Ready message"
    REQUEST = "a request was sent to it"
    CONTINUE = "it was asked for the next picture of its job"
    RESPONSE = "it sent a message"
    PAUSE = "it waits for the next picture of its job to be wanted"
    RELEASE = "its call is over"
    STOP = "it is asked to end"
    CRASH = "its connection ended or broke the protocol"
    TIMEOUT = "a response missed its deadline"
    DISCARD = "the pool closes before it is free"
    RETIRE = "it is worn: a replacement starts"
    REPLACED = "its replacement is ready"


SERVING: Final = frozenset({Phase.FREE, Phase.WORKING, Phase.RESPONDED, Phase.PAUSED})
"""The phases in which a worker counts towards the size of the pool."""

KILLED: Final = frozenset({Phase.START_FAILED, Phase.CRASHED, Phase.TIMED_OUT, Phase.DISCARDED})
"""The phases of a process that has ended or been killed. Events of the call it had may follow."""

_COUNTERS: Final = {Phase.CRASHED: "worker-crashed", Phase.TIMED_OUT: "worker-killed"}


_CRASH_SIGNALS: Final = frozenset(
    {
        signal.SIGABRT,
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGSEGV,
        signal.SIGSYS,
        signal.SIGTRAP,
        signal.SIGXCPU,
    }
)
"""The signals that a process causes itself: faults, `abort`, and the limit of its CPU time."""
_CPU_SHARE: Final = 0.9
"""The share of the deadline that a render has to spend as CPU time to be too slow on any machine."""


def is_crash(exit_code: int | None) -> bool:
    """Return whether a process ended by its own fault; `exit_code` is as in `subprocess`, None if unknown.

    SIGKILL and SIGTERM come from outside: an operator, the kernel when memory runs out, or this server.
    """
    return exit_code is not None and (exit_code >= 0 or -exit_code in _CRASH_SIGNALS)


def is_too_slow(cpu_s: float, deadline_s: float) -> bool:
    """Return whether a late render was late on its own account: its CPU time is as long as the deadline."""
    return cpu_s >= _CPU_SHARE * deadline_s


class WorkerState(NamedTuple):
    """The state of one worker."""

    phase: Phase = Phase.STARTING
    replacement: Replacement = Replacement.NONE

    @property
    def is_serving(self) -> bool:
        """Whether the worker is ready or has a call."""
        return self.phase in SERVING

    @property
    def counter(self) -> str | None:
        """The counter of this way to end; None if it is not counted."""
        return _COUNTERS.get(self.phase)

    @property
    def needs_replacement(self) -> bool:
        """Whether the worker ended unexpectedly and no replacement was started before."""
        return self.phase in _COUNTERS and self.replacement is Replacement.NONE


class ImpossibleEventError(Exception):
    """The event cannot happen in the worker's state."""


PHASE_TRANSITIONS: Final[Mapping[tuple[Phase, Event], Phase]] = {
    (Phase.STARTING, Event.READY): Phase.FREE,
    (Phase.STARTING, Event.CRASH): Phase.START_FAILED,
    (Phase.FREE, Event.REQUEST): Phase.WORKING,
    (Phase.FREE, Event.STOP): Phase.STOPPING,
    (Phase.WORKING, Event.RESPONSE): Phase.RESPONDED,
    (Phase.WORKING, Event.TIMEOUT): Phase.TIMED_OUT,
    (Phase.RESPONDED, Event.CONTINUE): Phase.WORKING,
    (Phase.RESPONDED, Event.PAUSE): Phase.PAUSED,
    (Phase.RESPONDED, Event.RELEASE): Phase.FREE,
    # The message arrived while the deadline's timer was already running out.
    (Phase.RESPONDED, Event.TIMEOUT): Phase.TIMED_OUT,
    (Phase.PAUSED, Event.CONTINUE): Phase.WORKING,
    (Phase.PAUSED, Event.REQUEST): Phase.WORKING,
    (Phase.PAUSED, Event.RELEASE): Phase.FREE,
    (Phase.PAUSED, Event.STOP): Phase.STOPPING,
    (Phase.STOPPING, Event.CRASH): Phase.STOPPING,
    **{(phase, Event.CRASH): Phase.CRASHED for phase in SERVING},
    # A process may end while its call is still being handled: the first reason stays.
    **{
        (phase, event): phase
        for phase in KILLED
        for event in (Event.PAUSE, Event.RELEASE, Event.STOP, Event.CRASH, Event.TIMEOUT)
    },
    **{(phase, Event.DISCARD): Phase.DISCARDED for phase in Phase},
}
REPLACEMENT_TRANSITIONS: Final[Mapping[tuple[Replacement, Event], Replacement]] = {
    (Replacement.NONE, Event.RETIRE): Replacement.STARTING,
    (Replacement.STARTING, Event.REPLACED): Replacement.READY,
}


def next_state(state: WorkerState, event: Event) -> WorkerState:
    """Return the state after an event. Raises `ImpossibleEventError` if the tables do not list it."""
    if phase := PHASE_TRANSITIONS.get((state.phase, event)):
        return state._replace(phase=phase)
    if replacement := REPLACEMENT_TRANSITIONS.get((state.replacement, event)):
        return state._replace(replacement=replacement)
    raise ImpossibleEventError(f"{event.name} in {state.phase.name}, replacement {state.replacement.name}")
