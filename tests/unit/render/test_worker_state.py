"""Every state of a worker with every event: the next state, or a refusal."""

from __future__ import annotations

import itertools

import pytest

from galerly_cdn.render.pool.worker_state import (
    Event,
    ImpossibleEventError,
    Phase,
    Replacement,
    WorkerState,
    next_state,
)

P, E = Phase, Event
# The phase after an event, by row; an event that a row does not list is refused.
EXPECTED: dict[Phase, dict[Event, Phase]] = {
    P.STARTING: {E.READY: P.FREE, E.CRASH: P.START_FAILED, E.DISCARD: P.DISCARDED},
    P.FREE: {E.REQUEST: P.WORKING, E.STOP: P.STOPPING, E.CRASH: P.CRASHED, E.DISCARD: P.DISCARDED},
    P.WORKING: {
        E.RESPONSE: P.RESPONDED,
        E.TIMEOUT: P.TIMED_OUT,
        E.CRASH: P.CRASHED,
        E.DISCARD: P.DISCARDED,
    },
    P.RESPONDED: {
        E.CONTINUE: P.WORKING,
        E.PAUSE: P.PAUSED,
        E.RELEASE: P.FREE,
        E.TIMEOUT: P.TIMED_OUT,
        E.CRASH: P.CRASHED,
        E.DISCARD: P.DISCARDED,
    },
    P.PAUSED: {
        E.REQUEST: P.WORKING,
        E.CONTINUE: P.WORKING,
        E.RELEASE: P.FREE,
        E.STOP: P.STOPPING,
        E.CRASH: P.CRASHED,
        E.DISCARD: P.DISCARDED,
    },
    P.STOPPING: {E.CRASH: P.STOPPING, E.DISCARD: P.DISCARDED},
    **{
        phase: {
            **dict.fromkeys((E.PAUSE, E.RELEASE, E.STOP, E.CRASH, E.TIMEOUT), phase),
            E.DISCARD: P.DISCARDED,
        }
        for phase in (P.START_FAILED, P.CRASHED, P.TIMED_OUT, P.DISCARDED)
    },
}
REPLACEMENT_EVENTS = {
    (Replacement.NONE, E.RETIRE): Replacement.STARTING,
    (Replacement.STARTING, E.REPLACED): Replacement.READY,
}


@pytest.mark.parametrize("replacement", Replacement)
@pytest.mark.parametrize(("phase", "event"), list(itertools.product(Phase, Event)))
def test_event_in_every_state_changes_it_as_listed_or_is_refused(
    phase: Phase, event: Event, replacement: Replacement
) -> None:
    state = WorkerState(phase, replacement)
    if event in EXPECTED[phase]:
        assert next_state(state, event) == (EXPECTED[phase][event], replacement)
    elif (replacement, event) in REPLACEMENT_EVENTS:
        assert next_state(state, event) == (phase, REPLACEMENT_EVENTS[replacement, event])
    else:
        with pytest.raises(ImpossibleEventError, match=f"{event.name} in {phase.name}"):
            next_state(state, event)


@pytest.mark.parametrize("replacement", Replacement)
@pytest.mark.parametrize("phase", Phase)
def test_state_reports_whether_it_serves_is_counted_and_needs_a_replacement(
    phase: Phase, replacement: Replacement
) -> None:
    state = WorkerState(phase, replacement)
    counter = {P.CRASHED: "worker-crashed", P.TIMED_OUT: "worker-killed"}.get(phase)
    assert state.is_serving is (phase in {P.FREE, P.WORKING, P.RESPONDED, P.PAUSED})
    assert state.counter == counter
    assert state.needs_replacement is (counter is not None and replacement is Replacement.NONE)


def test_phases_are_all_reachable() -> None:
    reached = {WorkerState().phase}
    for _ in Phase:
        reached |= {after for phase in reached for after in EXPECTED[phase].values()}
    assert reached == set(Phase)
