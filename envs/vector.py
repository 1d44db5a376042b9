"""Several environments behind one interface: in this process, or each in a supervised worker process.

No pool resets an environment by itself: the caller resets those whose episode ended, so every result of a
step is a real transition.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, cast

import gymnasium as gym
import numpy as np

from envs.registry import COUNTING, TaskError, canonical_task, make_env
from envs.rendering import ensure_backend
from envs.spec import EnvSpec, Pool, StepResult

START_TIMEOUT_S = 120.0
"""Longest that a worker may take to import, load its task and draw."""
_CLOSE_TIMEOUT_S = 2.0

MakeEnv = Callable[[int], gym.Env]
"""Builds the environment of a worker from its index; picklable, so that it can be sent to a process."""
EnvFunction = Callable[[gym.Env, Any], Any]


class WorkerError(RuntimeError):
    """An environment raised, died, hung, or returned a reward that is no number; the pool is closed."""


@dataclass(frozen=True)
class EnvMaker:
    """`make_env` with its options, to be sent to workers."""

    task: str
    seed: int
    size: int
    look: str
    action_repeat: int | None
    stack: int
    imports: tuple[str, ...] = ()

    def __call__(self, index: int) -> gym.Env:
        """Build environment `index`, whose action space has a seed of its own."""
        options = {**vars(self), "seed": self.seed + index}
        return make_env(options.pop("task"), **options)


def make_pool(
    task: str,
    *,
    count: int,
    seed: int,
    size: int = 64,
    look: str = "fast",
    action_repeat: int | None = None,
    stack: int = 3,
    imports: tuple[str, ...] = (),
    in_process: bool | None = None,
) -> Pool:
    """Build `count` environments of a task; the other options are those of `envs.make_env`.

    Args:
        task: name or alias.
        count: number of environments.
        seed: of the first; each has one of its own.
        size: height and width in pixels.
        look: `fast` or `original`.
        action_repeat: unset: the task's customary value.
        stack: frames in an observation.
        imports: modules that register the task with Gymnasium.
        in_process: whether they run in this process, one after another, or each in a worker process;
            unset: one runs here, several in workers.

    Raises:
        TaskError: no such task, or none that can be learnt from pixels.
        RenderingUnavailableError: frames cannot be drawn on this machine.
        WorkerError: a worker could not build its environment.
    """
    task = canonical_task(task, imports)
    make = EnvMaker(task, seed, size, look, action_repeat, stack, imports)
    if count == 1 if in_process is None else in_process:
        return SerialPool(make, count)
    if task != COUNTING:
        ensure_backend()  # once, here: workers inherit the choice
    return ProcessPool(make, count)


class SerialPool(Pool):
    """Environments in this process, stepped one after another."""

    def __init__(self, make: MakeEnv, count: int) -> None:
        """Build the environments."""
        self._envs = [make(index) for index in range(count)]
        self.env_spec = env_spec_of(self._envs[0])
        self.count = count

    def reset(self, seeds: dict[int, int]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """See `Pool.reset`."""
        return {index: self._call(index, _reset, seed) for index, seed in seeds.items()}

    def step(self, actions: dict[int, np.ndarray]) -> dict[int, StepResult]:
        """See `Pool.step`."""
        return {index: self._call(index, _step, action) for index, action in actions.items()}

    def close(self) -> None:
        """See `Pool.close`."""
        while self._envs:
            self._envs.pop().close()

    def _call(self, index: int, function: EnvFunction, argument: Any) -> Any:
        try:
            return function(self._envs[index], argument)
        except Exception as error:
            self.close()
            raise WorkerError(f"environment {index} of {self.env_spec.task} failed: {error}") from error


class ProcessPool(Pool):
    """Environments in worker processes, stepped at the same time.

    Workers are spawned, never forked: OpenGL contexts and locks do not survive a fork. They end when this
    process does, however it ends. The first failure of any worker closes the pool.
    """

    def __init__(self, make: MakeEnv, count: int, *, timeout_s: float = 60.0) -> None:
        """Start the workers and wait until every environment is built.

        Args:
            make: builds the environment of a worker.
            count: number of workers.
            timeout_s: longest that a reset or step may take before its worker counts as hung.

        Raises:
            WorkerError: a worker could not build its environment.
        """
        self.count = count
        self._timeout_s = timeout_s
        self._task = "a task"
        self._connections: list[Connection] = []
        self._processes: list[SpawnProcess] = []
        try:
            for index in range(count):
                self._start(make, index)
            self.env_spec = self._receive(range(count), START_TIMEOUT_S)[0]
            self._task = self.env_spec.task
        except BaseException:
            self.close()
            raise

    def reset(self, seeds: dict[int, int]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """See `Pool.reset`."""
        return self._ask(_reset, seeds)

    def step(self, actions: dict[int, np.ndarray]) -> dict[int, StepResult]:
        """See `Pool.step`."""
        return self._ask(_step, actions)

    def close(self) -> None:
        """See `Pool.close`."""
        while self._connections:
            self._connections.pop().close()  # a worker that waits for a command reads the end and leaves
        deadline = time.monotonic() + _CLOSE_TIMEOUT_S
        while self._processes:
            process = self._processes.pop()
            process.join(max(0.0, deadline - time.monotonic()))
            process.kill()
            process.join()

    def _start(self, make: MakeEnv, index: int) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_work, args=(theirs, make, index), name=f"environment-{index}", daemon=True
        )
        process.start()
        theirs.close()  # the worker now holds the only other end, so that its death ends the pipe
        self._connections.append(ours)
        self._processes.append(process)

    def _ask(self, function: EnvFunction, arguments: dict[int, Any]) -> dict[int, Any]:
        try:
            for index, argument in arguments.items():
                with contextlib.suppress(OSError):  # the worker is dead, which receiving reports
                    self._connections[index].send((function, argument))
            return self._receive(arguments, self._timeout_s)
        except BaseException:
            self.close()  # replies that nobody read would be taken for those of the next call
            raise

    def _receive(self, indices: Iterable[int], timeout_s: float) -> dict[int, Any]:
        """One reply of each worker, in the order of `indices`."""
        deadline = time.monotonic() + timeout_s
        waiting = {self._connections[index]: index for index in indices}
        replies = dict.fromkeys(waiting.values())
        while waiting:
            ready = wait(list(waiting), max(0.0, deadline - time.monotonic()))
            if not ready:
                raise self._error(min(waiting.values()), f"no answer within {timeout_s:g} s")
            for connection in [connection for connection in waiting if connection in ready]:
                index = waiting.pop(connection)
                try:
                    failure, replies[index] = connection.recv()
                except (EOFError, OSError):
                    self._processes[index].join(_CLOSE_TIMEOUT_S)
                    failure = f"it died with exit status {self._processes[index].exitcode}"
                if isinstance(failure, TaskError):
                    raise failure  # the task is at fault, not the worker
                if failure:
                    raise self._error(index, failure)
        return replies

    def _error(self, index: int, failure: str) -> WorkerError:
        return WorkerError(f"environment {index} of {self._task} failed: {failure}")


def _work(connection: Connection, make: MakeEnv, index: int) -> None:
    """A worker's life: build the environment, then obey until the pipe ends."""
    os.setsid()  # Ctrl-C is for the parent, which finishes its step, saves, and closes the pool
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        env = make(index)
        reply: Any = env_spec_of(env)
        while True:
            connection.send((None, reply))
            function, argument = connection.recv()
            reply = function(env, argument)
    except Exception as error:
        failure = error if isinstance(error, TaskError) else f"\n{traceback.format_exc()}"
        with contextlib.suppress(OSError):  # the parent closed the pool: nobody listens
            connection.send((failure, None))


def _die_with_parent() -> None:
    """End this process with its parent, also from within a step that never returns."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "only workers call this"
    parent.join()
    os._exit(1)


def env_spec_of(env: gym.Env) -> EnvSpec:
    """The `env_spec` of an environment of this project."""
    return cast("EnvSpec", env.env_spec)  # type: ignore[attr-defined]


def _reset(env: gym.Env, seed: int) -> tuple[np.ndarray, np.ndarray]:
    obs, info = env.reset(seed=seed)
    return obs, info["physics"]


def _step(env: gym.Env, action: np.ndarray) -> StepResult:
    obs, reward, terminated, truncated, info = env.step(action)
    if not math.isfinite(reward):
        raise ValueError(f"the reward is {reward} at physics state {info['physics']}")
    return StepResult(obs, float(reward), terminated, truncated, info["physics"], info["frames"])
