from __future__ import annotations

import pytest

import envs.supervision
from envs.spec import WorkerError
from envs.supervision import MAX_RESTARTS, RESTART_WINDOW_S, Failure
from envs.vector import SerialPool, make_pool


class Clock:
    def __init__(self) -> None:
        self.now = 1e6

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(envs.supervision, "time", clock)
    return clock


@pytest.fixture
def pool() -> SerialPool:
    pool = make_pool("counting", count=2, seed=0, size=8, in_process=True)
    assert isinstance(pool, SerialPool)
    return pool


def test_now_and_then_a_failure_is_no_reason_to_give_up(pool: SerialPool, clock: Clock) -> None:
    for _ in range(5 * MAX_RESTARTS):
        pool._report(0, Failure("bad luck"))
        clock.now += RESTART_WINDOW_S / MAX_RESTARTS + 1
    assert pool.restarts == 5 * MAX_RESTARTS


def test_one_environment_that_fails_too_often_is_given_up(pool: SerialPool, clock: Clock) -> None:
    for _ in range(MAX_RESTARTS):
        pool._report(0, Failure("a driver"))
        pool._report(1, Failure("a driver"))
        clock.now += 1
    with pytest.raises(WorkerError) as error:
        pool._report(1, Failure("a bolt came off", "all of the traceback"))
    assert str(error.value) == (
        f"environment 1 of counting failed {MAX_RESTARTS + 1} times within 60 minutes, "
        "the last time: a bolt came off"
    )
    assert error.value.__notes__ == ["all of the traceback"]
    assert pool.restarts == 2 * MAX_RESTARTS


def test_an_exception_is_told_in_one_line() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        failure = Failure.of(error)
    line, _, place = failure.what.partition(" (")
    assert line == "ValueError: two lines"
    assert place.startswith(__file__) and place.endswith(" in test_an_exception_is_told_in_one_line)")
    assert failure.trace.startswith("Traceback") and failure.trace.endswith("ValueError: two\nlines\n")
