from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import envs.supervision
import envs.vector
from envs.backgrounds import DistractorError
from envs.counting import CountingEnv, decode_step
from envs.registry import UnknownTaskError
from envs.spec import Observation, Pool, StepResult, WorkerError
from envs.supervision import Failure
from envs.vector import EnvMaker, ProcessPool, SerialPool, make_pool
from envs.worker import Worker

ROOT = Path(__file__).parents[2]
ACTION = np.zeros(2, np.float32)
DEADLINE_S = 4.0

TANGLED = "the joints are tangled"


class FaultyEnv(CountingEnv):
    """A counting environment with one fault."""

    def __init__(self, fault: str) -> None:
        super().__init__(size=8)
        self._fault = fault
        if fault == "no driver":
            raise RuntimeError("no driver")
        if fault == "dies at birth":
            os._exit(3)
        if fault == "sleeps at birth":
            time.sleep(600)

    def reset(self, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
        if self._fault == "raises at reset":
            raise ValueError(TANGLED)
        return super().reset(**options)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = super().step(action)
        match self._fault:
            case "raises":
                raise ValueError(TANGLED)
            case "was never possible":
                raise DistractorError("clip.gif is damaged: remove it")
            case "is killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "exits":
                sys.exit(3)
            case "hangs":
                time.sleep(600)
            case "hangs in C":
                ctypes.PyDLL(None).sleep(600)  # keeps Python's lock, unlike what is made for Python
            case "is not a number":
                reward = float("nan")
            case "is infinite":
                reward = float("-inf")
            case "sees no number":
                info["proprio"][1] = np.nan
        return obs, reward, terminated, truncated, info

    def close(self) -> None:
        if self._fault == "raises":
            raise RuntimeError("not even this works")


class MakeFaulty:
    """Environments of which only the second has faults: one each time that it is built, the last for good."""

    def __init__(self, *faults: str, births: Path | None = None) -> None:
        self._faults = faults
        self._births = births  # a file with a byte for each time

    def __call__(self, index: int) -> FaultyEnv:
        if index != 1:
            return FaultyEnv("none")
        if self._births is None:
            return FaultyEnv(self._faults[0])
        with self._births.open("ab") as file:
            file.write(b".")
            births = file.tell()
        return FaultyEnv(self._faults[min(births, len(self._faults)) - 1])


@pytest.fixture(autouse=True)
def _no_worker_is_left() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []


def start(pool: Pool) -> list[int]:
    return list(pool.reset({index: index for index in range(pool.count)}))


def step_all(pool: Pool) -> dict[int, StepResult]:
    return pool.step(dict.fromkeys(range(pool.count), ACTION))


def step_all_but(pool: Pool, index: int) -> dict[int, StepResult]:
    return pool.step({other: ACTION for other in range(pool.count) if other != index})


def assert_same(one: StepResult, other: StepResult) -> None:
    assert_same_observation(one.obs, other.obs)
    for name in {field.name for field in fields(StepResult)} - {"obs"}:
        mine, theirs = getattr(one, name), getattr(other, name)
        assert type(mine) is type(theirs)
        np.testing.assert_array_equal(mine, theirs, err_msg=name)


def assert_same_observation(one: Observation, other: Observation) -> None:
    assert (one.pixels.dtype, one.proprio.dtype) == (other.pixels.dtype, other.proprio.dtype)
    for mine, theirs in zip(one, other, strict=True):
        assert mine.size
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.gl
def test_pools_agree_bit_for_bit() -> None:
    rng = np.random.default_rng(0)
    options: dict[str, Any] = {"count": 3, "seed": 1, "size": 32, "action_repeat": 4}
    with (
        make_pool("reacher_easy", in_process=True, **options) as serial,
        make_pool("reacher_easy", in_process=False, **options) as processes,
    ):
        assert isinstance(serial, SerialPool) and isinstance(processes, ProcessPool)
        assert serial.env_spec == processes.env_spec and serial.count == processes.count == 3
        for seeds in ({0: 5, 1: 6, 2: 5}, {1: 8}):
            here, there = serial.reset(seeds), processes.reset(seeds)
            assert list(here) == list(there) == list(seeds)
            for index in seeds:
                assert_same_observation(here[index][0], there[index][0])
                np.testing.assert_array_equal(here[index][1], there[index][1])
            for chosen in ((0, 1, 2), (2, 0), (1,)):
                actions = {i: rng.uniform(-1, 1, 2).astype(np.float32) for i in chosen}
                one, other = serial.step(actions), processes.step(actions)
                assert list(one) == list(other) == list(chosen)
                for index in chosen:
                    assert_same(one[index], other[index])


def test_environments_answer_for_themselves() -> None:
    with ProcessPool(MakeFaulty("none"), 3) as pool:
        start(pool)
        for chosen in ((0, 1, 2), (2,), (2, 0)):
            results = pool.step(dict.fromkeys(chosen, ACTION))
        assert list(results) == [2, 0]
        for index, steps in {2: 3, 0: 2}.items():
            np.testing.assert_array_equal(results[index].physics, [steps, index])
            assert decode_step(results[index].obs.frame) == steps == results[index].reward + 1


def test_an_ended_episode_is_not_restarted_behind_the_callers_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for in_process in (True, False):
        with make_pool("counting", count=1, seed=0, size=8, in_process=in_process) as pool:
            start(pool)
            for _ in range(100):
                result = step_all(pool)[0]
            assert result.truncated and decode_step(result.obs.frame) == 100
            assert step_all(pool) == {}
            assert re.match(r"environment 0 of counting failed: .*call reset\(\)", caplog.messages.pop())
            caplog.clear()


@pytest.mark.parametrize(
    ("count", "in_process", "kind"),
    [(1, None, SerialPool), (2, None, ProcessPool), (2, True, SerialPool), (1, False, ProcessPool)],
)
def test_one_environment_runs_here_and_several_in_workers(
    count: int, in_process: bool | None, kind: type[Pool]
) -> None:
    with make_pool("counting", count=count, seed=0, size=8, stack=2, in_process=in_process) as pool:
        assert type(pool) is kind and pool.count == count
        assert (pool.env_spec.task, pool.env_spec.obs_shape) == ("counting", (6, 8, 8))
        workers = multiprocessing.active_children()
        assert len(workers) == (count if kind is ProcessPool else 0)
        for worker in workers:
            assert os.getsid(worker.pid or 0) == worker.pid, "Ctrl-C in the terminal reaches it"
        start(pool)
        assert len(step_all(pool)) == count


def test_an_unknown_task_starts_no_worker() -> None:
    with pytest.raises(UnknownTaskError, match="dmc/walker-walk"):
        make_pool("walker-wlak", count=2, seed=0)


def test_each_environment_samples_actions_of_its_own() -> None:
    make = EnvMaker("counting", seed=3, size=8, look="fast", action_repeat=2, stack=3)
    samples = [make(index).action_space.sample() for index in (0, 0, 1)]
    np.testing.assert_array_equal(samples[0], samples[1])
    assert not np.array_equal(samples[0], samples[2])
    assert pickle.loads(pickle.dumps(make)) == make


FAULTS = {
    "raises": rf"ValueError: {TANGLED} \(.*test_vector\.py:\d+ in step\)",
    "raises at reset": rf"ValueError: {TANGLED} \(.*test_vector\.py:\d+ in reset\)",
    "is not a number": r"the reward is nan at physics state \[1\. 1\.\]",
    "is infinite": "the reward is -inf",
    "sees no number": r"the observation vector is \[ 1\. nan\] at physics state \[1\. 1\.\]",
    "exits": "it died with exit status 3",
    "is killed": r"it was killed by signal 9 \(Killed\)",
    "hangs": f"no answer within {DEADLINE_S:g} s",
}
IN_PROCESS = ["raises", "raises at reset", "is not a number", "is infinite", "sees no number"]


@pytest.mark.parametrize(
    ("kind", "fault"),
    [*((SerialPool, fault) for fault in IN_PROCESS), *((ProcessPool, fault) for fault in FAULTS)],
)
def test_what_fails_is_named_and_built_again_and_the_others_go_on(
    kind: type[SerialPool | ProcessPool], fault: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"timeout_s": DEADLINE_S} if fault == "hangs" else {}
    with kind(MakeFaulty(fault, "none", births=tmp_path / "births"), 2, **options) as pool:
        begin = time.monotonic()
        started = start(pool)
        assert list(pool.step(dict.fromkeys(started, ACTION))) == [0]
        assert time.monotonic() - begin < DEADLINE_S + 20
        (message,) = caplog.messages
        assert re.fullmatch(
            rf"environment 1 of counting failed: .*{FAULTS[fault]}.*; it is started again \(restart 1\)",
            message,
        )
        assert pool.restarts == 1

        assert list(pool.step({0: ACTION})) == [0]
        assert list(pool.reset({1: 7})) == [1]
        assert [list(result.physics) for result in step_all(pool).values()] == [[3, 0], [1, 7]]
        assert len(caplog.messages) == pool.restarts == 1
        assert len(multiprocessing.active_children()) == (2 if kind is ProcessPool else 0)


@pytest.mark.parametrize(("kind", "deaths"), [(SerialPool, []), (ProcessPool, ["dies at birth"])])
def test_what_fails_to_start_again_is_started_once_more(
    kind: type[SerialPool | ProcessPool], deaths: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make = MakeFaulty("raises", "no driver", *deaths, "none", births=tmp_path / "births")
    with kind(make, 2) as pool:
        start(pool)
        assert list(step_all(pool)) == [0]
        assert list(pool.reset({1: 3})) == [1], "whoever asks waits for it"
        assert list(step_all(pool)) == [0, 1]
        causes = [TANGLED, "RuntimeError: no driver", *("died with exit status 3" for _ in deaths)]
        assert pool.restarts == len(causes)
        for message, cause in zip(caplog.messages, causes, strict=True):
            assert message.startswith("environment 1 of counting failed: ") and cause in message


@pytest.mark.parametrize("kind", [SerialPool, ProcessPool])
@pytest.mark.parametrize(
    ("faults", "cause"), [(["raises"], TANGLED), (["raises", "no driver"], "RuntimeError: no driver")]
)
def test_what_fails_too_often_closes_the_pool(
    kind: type[SerialPool | ProcessPool],
    faults: list[str],
    cause: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(envs.supervision, "MAX_RESTARTS", 1)
    pool = kind(MakeFaulty(*faults, births=tmp_path / "births"), 2)
    with pytest.raises(WorkerError, match="environment 1 of counting failed 2 times") as error:
        for _ in range(2):
            start(pool)
            assert list(step_all(pool)) == [0]
    assert cause in str(error.value) and "\n" not in str(error.value)
    assert "Traceback" in error.value.__notes__[0]
    assert multiprocessing.active_children() == []
    with pytest.raises(RuntimeError, match="this pool is closed"):
        start(pool)
    pool.close()


@pytest.mark.parametrize("kind", [SerialPool, ProcessPool])
def test_a_mistake_that_starting_again_does_not_mend_is_told_at_once(
    kind: type[SerialPool | ProcessPool], caplog: pytest.LogCaptureFixture
) -> None:
    pool = kind(MakeFaulty("was never possible"), 2)
    start(pool)
    with pytest.raises(DistractorError, match=r"^clip\.gif is damaged: remove it$"):
        step_all(pool)
    assert caplog.messages == []
    assert multiprocessing.active_children() == []


def test_interrupts_do_not_reach_a_worker_that_starts() -> None:
    """Ctrl-C goes to all processes of a terminal, and starting takes longer than it does to be pressed."""
    worker = Worker(MakeFaulty("none"), 0)
    (process,) = multiprocessing.active_children()
    while not worker.connection.poll(0.02):
        os.kill(process.pid or 0, signal.SIGINT)
    assert not isinstance(worker.receive(), Failure)
    worker.end(time.monotonic() + 2)
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_worker_has_a_deadline_to_start_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envs.supervision, "MAX_RESTARTS", 1)
    with ProcessPool(MakeFaulty("raises", "sleeps at birth", births=tmp_path / "births"), 2) as pool:
        start(pool)
        assert list(step_all(pool)) == [0]
        assert list(step_all_but(pool, 1)) == [0], "who does not ask does not wait"
        monkeypatch.setattr(envs.vector, "START_TIMEOUT_S", 1.0)
        with pytest.raises(WorkerError, match="the last time: no answer within 1 s"):
            start(pool)


@pytest.mark.parametrize("kind", [SerialPool, ProcessPool])
def test_a_closed_pool_says_so(kind: type[SerialPool | ProcessPool]) -> None:
    pool = kind(MakeFaulty("none"), 2)
    start(pool)
    pool.close()
    for use in (start, step_all):
        with pytest.raises(RuntimeError, match="this pool is closed: build another one"):
            use(pool)


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("no driver", "RuntimeError: no driver"),
        ("dies at birth", "died with exit status 3"),
        ("sleeps at birth", "no answer within 1 s"),
    ],
)
def test_a_worker_that_cannot_build_its_environment_at_first_is_named(
    fault: str, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault == "sleeps at birth":
        monkeypatch.setattr(envs.vector, "START_TIMEOUT_S", 1.0)
    with pytest.raises(WorkerError, match=rf"environment [01] cannot be built: .*{cause}"):
        ProcessPool(MakeFaulty(fault), 2)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)


def leave_alone(pid: int) -> None:
    """The usual case."""


@pytest.mark.parametrize("harm", [leave_alone, kill, stop])
def test_closing_never_hangs_and_may_be_repeated(harm: Callable[[int], None]) -> None:
    pool = ProcessPool(MakeFaulty("none"), 2)
    start(pool)
    workers = multiprocessing.active_children()
    harm(workers[0].pid or 0)
    for _ in range(2):
        begin = time.monotonic()
        pool.close()
        assert time.monotonic() - begin < 4
        assert not any(worker.is_alive() for worker in workers)
    if harm is leave_alone:
        assert [worker.exitcode for worker in workers] == [0, 0], "they leave by themselves"


def test_a_worker_killed_between_calls_is_missing(caplog: pytest.LogCaptureFixture) -> None:
    with ProcessPool(MakeFaulty("none"), 1) as pool:
        start(pool)
        (worker,) = multiprocessing.active_children()
        worker.kill()
        worker.join()
        assert step_all(pool) == {}
        assert "environment 0 of counting failed: it was killed by signal 9 (Killed)" in caplog.messages[0]
        assert start(pool) == [0]


def test_workers_outlive_the_thread_that_started_them() -> None:
    """The kernel, asked to end them with their parent, would take that thread for it."""
    pools: list[ProcessPool] = []
    thread = threading.Thread(target=lambda: pools.append(ProcessPool(MakeFaulty("none"), 1)))
    thread.start()
    thread.join()
    with pools[0] as pool:
        time.sleep(0.2)
        assert start(pool) == [0]
        assert pool.restarts == 0


def test_an_interrupt_closes_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    pool = ProcessPool(MakeFaulty("none"), 2)
    start(pool)
    monkeypatch.setattr(envs.vector, "wait", interrupt)
    with pytest.raises(KeyboardInterrupt):
        step_all(pool)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("fault", ["hangs", "hangs in C"])
def test_workers_die_with_a_parent_that_is_killed(fault: str) -> None:
    """Also in the middle of a step: the parent's output ends when all who could write to it are gone."""
    code = f"""
import multiprocessing, threading, time
from tests.envs.test_vector import MakeFaulty, start, step_all
from envs.vector import ProcessPool
pool = ProcessPool(MakeFaulty("{fault}"), 2)
start(pool)
workers = multiprocessing.active_children()
threading.Thread(target=step_all, args=(pool,), daemon=True).start()
time.sleep(1)
print(*(worker.pid for worker in workers if worker.is_alive()), flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(workers) == 2
    parent.kill()
    try:
        assert parent.communicate(timeout=10)[0] == ""
    finally:
        for pid in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
