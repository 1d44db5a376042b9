"""Several environments behind one interface: in this process, or each in a supervised worker process.

No pool resets an environment by itself: the caller resets those whose episode ended, so every result of a
step is a real transition.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any

import gymnasium as gym
import numpy as np

from configs.distractors import NO_DISTRACTORS
from envs.registry import COUNTING, TaskError, canonical_task, check_distractors, make_env, needs_backend
from envs.rendering import ensure_backend
from envs.spec import Observation, Pool, StepResult, WorkerError
from envs.supervision import Failure, SupervisedPool
from envs.worker import EnvFunction, MakeEnv, Worker, env_spec_of

START_TIMEOUT_S = 120.0
"""Longest that a worker may take to import, load its task and draw."""
ANSWER_TIMEOUT_S = 60.0
"""Longest that a reset or a step may take before its worker counts as hung."""
_CLOSE_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class EnvMaker:
    """`make_env` with its options, to be sent to workers."""

    task: str
    seed: int
    size: int
    look: str
    action_repeat: int | None
    stack: int
    distract: str = NO_DISTRACTORS
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
    distract: str = NO_DISTRACTORS,
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
        size: height and width in pixels; 0: nothing is drawn.
        look: `fast` or `original`.
        distract: distractors, as for `make_env`.
        action_repeat: unset: the task's customary value.
        stack: frames in an observation.
        imports: modules that register the task with Gymnasium.
        in_process: whether they run in this process, one after another, or each in a worker process;
            unset: one runs here, several in workers.

    Raises:
        TaskError: no such task, or none that can be learnt from pixels.
        DistractorError: the distractors cannot be had.
        RenderingUnavailableError: frames cannot be drawn on this machine.
        WorkerError: a worker could not build its environment.
    """
    task = canonical_task(task, imports)
    distract = check_distractors(task, distract)
    make = EnvMaker(task, seed, size, look, action_repeat, stack, distract, imports)
    if count == 1 if in_process is None else in_process:
        return SerialPool(make, count)
    if task != COUNTING:
        ensure_backend(needed=needs_backend(task, size))  # once, here: workers inherit the choice
    return ProcessPool(make, count)


class SerialPool(SupervisedPool):
    """Environments in this process, stepped one after another.

    One that raises is built again. One that hangs, or ends the process, takes this process with it: only
    `ProcessPool` can notice that.
    """

    def __init__(self, make: MakeEnv, count: int) -> None:
        """Build the environments."""
        super().__init__(count)
        self._make = make
        self._envs = {index: make(index) for index in range(count)}
        self.env_spec = env_spec_of(self._envs[0])

    def reset(self, seeds: dict[int, int]) -> dict[int, tuple[Observation, np.ndarray]]:
        """See `Pool.reset`."""
        return self._ask(_reset, seeds)

    def step(self, actions: dict[int, np.ndarray]) -> dict[int, StepResult]:
        """See `Pool.step`."""
        return self._ask(_step, actions)

    def close(self) -> None:
        """See `Pool.close`."""
        while self._envs:
            self._envs.popitem()[1].close()

    def _ask(self, function: EnvFunction, arguments: Mapping[int, Any]) -> dict[int, Any]:
        """Call a function with some of the environments; those that fail are missing from the results."""
        _check_open(self._envs)
        results = {}
        for index, argument in arguments.items():
            try:
                results[index] = function(self._envs[index], argument)
            except Exception as error:
                self._build_again(index, error)
        return results

    def _build_again(self, index: int, error: Exception) -> None:
        with contextlib.suppress(Exception):  # it is broken already
            self._envs.pop(index).close()
        while index not in self._envs:
            try:
                self._report(index, Failure.of(error))
            except (TaskError, WorkerError) as final:
                self.close()
                raise final from error
            try:
                self._envs[index] = self._make(index)
            except Exception as again:
                error = again


class ProcessPool(SupervisedPool):
    """Environments in worker processes, stepped at the same time.

    A worker that raises, dies, or does not answer in time is replaced by a new one, which starts while the
    others go on; whoever asks it next waits for it. Workers end when this process does, however it ends.
    """

    def __init__(self, make: MakeEnv, count: int, *, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        """Start the workers and wait until every environment is built.

        Args:
            make: builds the environment of a worker.
            count: number of workers.
            timeout_s: longest that a reset or step may take before its worker counts as hung.

        Raises:
            WorkerError: a worker could not build its environment, which is not tried a second time.
        """
        super().__init__(count)
        self._make = make
        self._timeout_s = timeout_s
        self._workers: list[Worker] = []
        self._starting: set[int] = set()  # workers whose environment may not be built yet
        try:
            for index in range(count):
                self._workers.append(Worker(make, index))
            specs = self._receive(range(count), START_TIMEOUT_S)
            for index, spec in specs.items():
                if isinstance(spec, Failure):
                    raise spec.as_error(f"environment {index} cannot be built: {spec.what}")
            self.env_spec = specs[0]
        except BaseException:
            self.close()
            raise

    def reset(self, seeds: dict[int, int]) -> dict[int, tuple[Observation, np.ndarray]]:
        """See `Pool.reset`."""
        return self._ask(_reset, seeds)

    def step(self, actions: dict[int, np.ndarray]) -> dict[int, StepResult]:
        """See `Pool.step`."""
        return self._ask(_step, actions)

    def close(self) -> None:
        """See `Pool.close`."""
        for worker in self._workers:
            worker.connection.close()  # all of them leave at the same time
        deadline = time.monotonic() + _CLOSE_TIMEOUT_S
        while self._workers:
            self._workers.pop().end(deadline)

    def _ask(self, function: EnvFunction, arguments: Mapping[int, Any]) -> dict[int, Any]:
        """Call a function with some of the environments; those that fail are missing from the results."""
        _check_open(self._workers)
        try:
            while starting := self._starting.intersection(arguments):
                self._starting -= starting
                self._replace_failed(self._receive(sorted(starting), START_TIMEOUT_S))
            for index, argument in arguments.items():
                self._workers[index].send(function, argument)
            return self._replace_failed(self._receive(arguments, self._timeout_s))
        except BaseException:
            self.close()  # answers that nobody read would be taken for those of the next call
            raise

    def _receive(self, indices: Iterable[int], timeout_s: float) -> dict[int, Any]:
        """One answer, or `Failure`, of each worker, in the order of `indices`."""
        deadline = time.monotonic() + timeout_s
        waiting = {self._workers[index].connection: index for index in indices}
        silence = Failure(f"no answer within {timeout_s:g} s")
        answers: dict[int, Any] = dict.fromkeys(waiting.values(), silence)
        while waiting:
            ready = wait(list(waiting), max(0.0, deadline - time.monotonic()))
            if not ready:
                break
            for connection in [connection for connection in waiting if connection in ready]:
                index = waiting.pop(connection)
                answers[index] = self._workers[index].receive()
        return answers

    def _replace_failed(self, answers: dict[int, Any]) -> dict[int, Any]:
        """The answers without failures; their workers are ended, and new ones started in their place."""
        for index, failure in answers.items():
            if isinstance(failure, Failure):
                self._report(index, failure)
                self._workers[index].end(time.monotonic())
                self._workers[index] = Worker(self._make, index)
                self._starting.add(index)
        return {index: answer for index, answer in answers.items() if not isinstance(answer, Failure)}


def _check_open(members: object) -> None:
    if not members:
        raise RuntimeError("this pool is closed: build another one")


def _reset(env: gym.Env, seed: int) -> tuple[Observation, np.ndarray]:
    pixels, info = env.reset(seed=seed)
    return _observation(pixels, info), info["physics"]


def _step(env: gym.Env, action: np.ndarray) -> StepResult:
    pixels, reward, terminated, truncated, info = env.step(action)
    if not math.isfinite(reward):
        raise ValueError(f"the reward is {reward} at physics state {info['physics']}")
    obs = _observation(pixels, info)
    return StepResult(obs, float(reward), terminated, truncated, info["physics"], info["frames"])


def _observation(pixels: np.ndarray, info: dict[str, Any]) -> Observation:
    proprio = info["proprio"]
    if not np.isfinite(proprio).all():
        raise ValueError(f"the observation vector is {proprio} at physics state {info['physics']}")
    return Observation(pixels, proprio)
