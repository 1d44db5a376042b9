"""What can draw frames here: every backend tried in processes of its own, timed, and what would mend it.

Training asks `envs.rendering.select_backend` instead, which is content with the first backend that draws.
Nothing is imported from MuJoCo until frames are timed.
"""

from __future__ import annotations

import ctypes
import os
import statistics
import sys
import time
from dataclasses import dataclass, replace

import numpy as np

from configs.distractors import NO_DISTRACTORS
from envs.rendering import (
    BACKENDS,
    PACKAGES,
    RenderingTimeoutError,
    RenderingUnavailableError,
    ask_process,
    probe_backend,
)

SIMULATORS = "pip install 'dm-control>=1.0.50' 'mujoco>=3.17,<4'"
"""Command that installs versions which work together: dm-control names no upper bound, and fails with 4."""

SIZE = 64
WARM_UP_FRAMES = 5
TIMED_FRAMES = 50

# PyOpenGL needs one library of each group; from the second it takes what checks for errors.
_LIBRARIES = {
    "egl": (("libEGL",), ("libOpenGL", "libGL", "libGLESv2", "libGLESv1_CM")),
    "osmesa": (("libOSMesa",),),
}

# Each of them can hide a driver that is installed, or ask for one that is not.
_MISLEADING = (
    "__EGL_VENDOR_LIBRARY_FILENAMES",
    "__EGL_VENDOR_LIBRARY_DIRS",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "LIBGL_DRIVERS_PATH",
    "MUJOCO_EGL_DEVICE_ID",
)

# For what is installed and does not work: `apt-get install` alone would leave it as it is.
_REINSTALL = {
    "egl": "apt-get install --reinstall libegl1 libegl-mesa0 libgl1-mesa-dri libopengl0",
    "osmesa": "apt-get install --reinstall libosmesa6",
}
_WAIT = "try again when the machine is idle; if it hangs again, set MUJOCO_GL to a backend that draws"


@dataclass(frozen=True)
class RendererReport:
    """What came of one backend.

    Attributes:
        backend: value of `MUJOCO_GL`.
        renderer: what OpenGL calls itself; None where it drew nothing.
        software: whether it draws on the CPU; None where it drew nothing.
        fps: frames of a task a second, see `frames_per_second`; None where the task was not drawn.
        ok: whether the task was drawn.
        error: why it was not.
        fix: command or action that mends it; None where nothing is broken.
    """

    backend: str
    renderer: str | None = None
    software: bool | None = None
    fps: float | None = None
    ok: bool = False
    error: str | None = None
    fix: str | None = None


def examine_backend(name: str, timeout_s: float = 60.0) -> RendererReport:
    """Draw a tiny scene with a backend, then time a real task; explain what fails.

    Args:
        name: egl, osmesa or glfw; another value of `MUJOCO_GL` fails here as it does in training.
        timeout_s: longest that each attempt may take, in seconds.
    """
    report = RendererReport(name)
    try:
        backend = probe_backend(name, timeout_s)
        report = replace(report, renderer=backend.renderer, software=backend.is_software)
        fps = float(_call(name, "frames_per_second()", timeout_s))
    except RenderingUnavailableError as error:
        report = replace(report, error=str(error).removeprefix(f"{name}: "))
        if isinstance(error, RenderingTimeoutError):
            return replace(report, fix=_WAIT)
        if report.renderer is not None:  # the driver works, the task does not
            return replace(report, fix=SIMULATORS)
        return _explained(report, timeout_s)
    return replace(report, fps=round(fps, 1), ok=True)


def frames_per_second() -> float:
    """Frames drawn a second in this process, each after one step of the physics.

    Of a cartpole, 64 px, in the fast look; from the median of 50.

    Raises:
        RuntimeError: the frames are black.
    """
    from envs.dmc import DmcEnv

    env = DmcEnv(
        "cartpole",
        "swingup",
        seed=0,
        size=SIZE,
        look="fast",
        distract=NO_DISTRACTORS,
        action_repeat=1,
        stack=1,
    )
    obs, _ = env.reset(seed=0)
    if not obs.any():
        raise RuntimeError("the frames of the task are black")
    action = np.zeros(env.env_spec.action_dim)
    times = []
    for _ in range(WARM_UP_FRAMES + TIMED_FRAMES):
        start = time.perf_counter()
        env.step(action)
        times.append(time.perf_counter() - start)
    env.close()
    return 1 / statistics.median(times[WARM_UP_FRAMES:])


def library_problem(backend: str) -> str:
    """What the system's loader says of a library that a backend needs and cannot have; empty: it has all.

    PyOpenGL tries the same names, but what it reports says nothing of the loader.

    Args:
        backend: egl or osmesa.
    """
    for libraries in _LIBRARIES[backend]:
        errors = [_load_error(name) for library in libraries for name in _file_names(library)]
        if all(errors):
            # Absent under most names, it may be damaged under one, or lack a library that it needs itself.
            return next((error for error in errors if not _is_absent(error, backend)), errors[0])
    return ""


def _file_names(library: str) -> list[str]:
    return [f"{library}.so", *(f"{library}.so.{version}" for version in reversed(range(10)))]


def _load_error(name: str) -> str:
    try:
        ctypes.CDLL(name)
    except OSError as error:
        return str(error)
    return ""


def _is_absent(problem: str, backend: str) -> bool:
    """Whether a library is nowhere: of one that is somewhere, the loader names the path."""
    names = tuple(f"{library}.so" for libraries in _LIBRARIES[backend] for library in libraries)
    return problem.startswith(names)


def _explained(report: RendererReport, timeout_s: float) -> RendererReport:
    """The report of a backend that drew nothing, with the cause where it can be found, and the remedy."""
    name = report.backend
    if name not in BACKENDS:
        return replace(report, fix="unset MUJOCO_GL")
    if name not in _LIBRARIES:
        if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
            return replace(report, fix="let DISPLAY name a screen that can be reached, or unset it")
        return replace(report, error="needs a display, and DISPLAY is not set; egl and osmesa need none")
    problem = _problem_elsewhere(name, timeout_s)
    return replace(report, error=problem or report.error, fix=_fix(name, problem, timeout_s))


def _fix(name: str, problem: str, timeout_s: float) -> str:
    """What brings egl or osmesa here: leaving out a variable, or installing, or both."""
    found = tuple(variable for variable in _MISLEADING if variable in os.environ)
    trials = [(variable,) for variable in found] + ([found] if len(found) > 1 else [])
    for without in trials:
        if _draws(name, timeout_s, without):
            return f"unset {' '.join(without)}"
    left = _problem_elsewhere(name, timeout_s, without=found) if found else problem
    install = (PACKAGES if _is_absent(left, name) else _REINSTALL)[name]
    return install if left == problem else f"unset {' '.join(found)} && {install}"


def _draws(name: str, timeout_s: float, without: tuple[str, ...]) -> bool:
    try:
        probe_backend(name, timeout_s, without=without)
    except RenderingUnavailableError:
        return False
    return True


def _problem_elsewhere(name: str, timeout_s: float, without: tuple[str, ...] = ()) -> str:
    """`library_problem` in another process, because a broken library may crash it."""
    try:
        return _call(name, f"library_problem({name!r})", timeout_s, without)
    except RenderingUnavailableError:
        return ""


def _call(name: str, call: str, timeout_s: float, without: tuple[str, ...] = ()) -> str:
    """What a function of this module returns in a process of its own, with one backend."""
    # As multiprocessing does: that process finds modules where this one found them.
    program = f"import sys; sys.path[:] = {sys.path!r}; import envs.diagnosis as here\n"
    return ask_process(name, f"{program}print('answer:', here.{call})", "answer:", timeout_s, without=without)
