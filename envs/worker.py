"""An environment in a process of its own, which can be ended at any time without harm to others."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any, cast

import gymnasium as gym

from envs.spec import EnvSpec
from envs.supervision import Failure

MakeEnv = Callable[[int], gym.Env]
"""Builds the environment of a worker from its index; picklable, so that it can be sent to a process."""
EnvFunction = Callable[[gym.Env, Any], Any]

_DEATH_TIMEOUT_S = 10.0
_PR_SET_PDEATHSIG = 1


class Worker:
    """A process that builds an environment, then obeys one command after another.

    Every command has one answer, and so has the start: the `EnvSpec`, once the environment is built. After a
    failure the process ends. It is spawned, never forked: OpenGL contexts and locks do not survive a fork.

    Attributes:
        connection: readable when an answer has come.
    """

    def __init__(self, make: MakeEnv, index: int) -> None:
        """Start the process; returns without waiting for it."""
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        # The kernel takes the end of the thread that started a process for its parent's end.
        is_main = threading.current_thread() is threading.main_thread()
        self._process = context.Process(
            target=_work, args=(theirs, make, index, is_main), name=f"environment-{index}", daemon=True
        )
        with _interrupts_held():
            self._process.start()
        theirs.close()  # the worker now holds the only other end, so that its death ends the pipe

    def send(self, function: EnvFunction, argument: Any) -> None:
        """Let the worker call a function with its environment."""
        with contextlib.suppress(OSError):  # it is dead, which receiving reports
            self.connection.send((function, argument))

    def receive(self) -> Any:
        """The answer, or the `Failure`, that has come."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            self._process.join(_DEATH_TIMEOUT_S)
            return Failure(_death(self._process.exitcode))

    def end(self, deadline: float) -> None:
        """Let the process leave by itself until `deadline`, a `time.monotonic()`, then kill it."""
        self.connection.close()  # if it waits for a command, it reads the end and leaves
        self._process.join(max(0.0, deadline - time.monotonic()))
        self._process.kill()
        self._process.join(_DEATH_TIMEOUT_S)  # no longer: within a driver, a process may not even be killed


def env_spec_of(env: gym.Env) -> EnvSpec:
    """The `env_spec` of an environment of this project."""
    return cast("EnvSpec", env.env_spec)  # type: ignore[attr-defined]


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold SIGINT back, here, and in a process that is started meanwhile until it has left the terminal."""
    resource_tracker.ensure_running()  # starting it lets signals through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(connection: Connection, make: MakeEnv, index: int, started_by_main_thread: bool) -> None:
    """A worker's life: build the environment, then obey until the pipe ends."""
    # Ctrl-C is for the parent, which finishes its step, saves, and closes the pool.
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if started_by_main_thread:
        _let_the_kernel_kill_orphans()
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        env = make(index)
        answer: Any = env_spec_of(env)
        while True:
            connection.send(answer)
            function, argument = connection.recv()
            answer = function(env, argument)
    except Exception as error:
        with contextlib.suppress(OSError):  # the parent closed the pool: nobody listens
            connection.send(Failure.of(error))


def _let_the_kernel_kill_orphans() -> None:
    """End this process with its parent also where C code never gives Python's lock back; Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))


def _die_with_parent() -> None:
    """End this process with its parent, also from within a step that never returns."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "only workers call this"
    parent.join()
    os._exit(1)


def _death(exitcode: int | None) -> str:
    if exitcode is None:
        return "it closed its pipe"
    if exitcode < 0:
        return f"it was killed by signal {-exitcode} ({signal.strsignal(-exitcode)})"
    return f"it died with exit status {exitcode}"
