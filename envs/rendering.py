"""Drawing frames: finding an OpenGL backend that works here, and the two looks of a task.

Nothing is imported from MuJoCo until a frame is drawn, because MuJoCo reads the choice of backend from
the environment when it is imported.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from dm_control.mujoco.engine import Camera, Physics, Pose

LOOKS = ("fast", "original")

_HEADLESS_BACKENDS = ("egl", "osmesa")

_PROBE = """
import mujoco
model = mujoco.MjModel.from_xml_string(
    "<mujoco><worldbody><light pos='0 0 2'/><geom size='.5'/></worldbody></mujoco>"
)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 16, 16) as renderer:
    renderer.update_scene(data)
    assert renderer.render().any(), "the rendered frame is black"
    from OpenGL import GL
    print("renderer:", GL.glGetString(GL.GL_RENDERER).decode())
"""


class RenderingUnavailableError(RuntimeError):
    """No OpenGL backend can draw a frame on this machine; the message says what to install."""


@dataclass(frozen=True)
class Backend:
    """An OpenGL backend that drew a frame.

    Attributes:
        name: value of `MUJOCO_GL`: egl, osmesa or glfw.
        renderer: what OpenGL calls itself, for instance `llvmpipe (LLVM 15.0.6, 256 bits)`; `llvmpipe`
            and `softpipe` draw on the CPU.
    """

    name: str
    renderer: str


def select_backend(timeout_s: float = 60.0) -> Backend:
    """Find a backend that draws here and choose it for this process; call before MuJoCo is imported.

    A `MUJOCO_GL` that is set already is the only one tried. Each backend draws a tiny scene in a process
    of its own, because a broken driver may crash or hang. Sets `MUJOCO_GL` and `PYOPENGL_PLATFORM`.

    Args:
        timeout_s: longest that one backend may take, in seconds.

    Raises:
        RenderingUnavailableError: none works.
    """
    chosen = os.environ.get("MUJOCO_GL", "").strip().lower()
    windowed = ("glfw",) if os.environ.get("DISPLAY") else ()
    failures = []
    for name in (chosen,) if chosen else _HEADLESS_BACKENDS + windowed:
        try:
            backend = probe_backend(name, timeout_s)
        except RenderingUnavailableError as error:
            failures.append(str(error))
        else:
            os.environ.update(_backend_environment(name))
            return backend
    raise RenderingUnavailableError(_how_to_fix(chosen, failures))


def ensure_backend() -> None:
    """Choose a backend, unless a parent process has: workers inherit its choice."""
    if multiprocessing.parent_process() is None or not os.environ.get("MUJOCO_GL"):
        select_backend()


@functools.cache
def probe_backend(name: str, timeout_s: float = 60.0) -> Backend:
    """Draw a tiny scene with one backend in a process of its own.

    Args:
        name: egl, osmesa or glfw.
        timeout_s: longest that it may take, in seconds.

    Raises:
        RenderingUnavailableError: it failed or took too long.
    """
    environment = {**os.environ, **_backend_environment(name)}
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE], env=environment, capture_output=True, text=True, timeout=timeout_s
        )
    except subprocess.TimeoutExpired:
        raise RenderingUnavailableError(
            f"{name}: no frame within {timeout_s:g} s (a driver that hangs, or a busy machine: try again)"
        ) from None
    _, found, renderer = done.stdout.partition("renderer: ")
    if done.returncode or not found:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise RenderingUnavailableError(f"{name}: {lines[-1]}")
    return Backend(name, renderer.strip())


def _backend_environment(name: str) -> dict[str, str]:
    platform = {"PYOPENGL_PLATFORM": name} if name in _HEADLESS_BACKENDS else {}
    return {"MUJOCO_GL": name, **platform}


def _how_to_fix(chosen: str, failures: list[str]) -> str:
    tried = "; ".join(failures)
    unset = f" MUJOCO_GL={chosen} was tried alone: unset it to let others be tried." if chosen else ""
    return (
        "no OpenGL backend can draw frames here. On Debian or Ubuntu install one: "
        "`apt-get install libegl1 libgl1-mesa-dri` (EGL) or `apt-get install libosmesa6` (OSMesa)."
        f"{unset} Tried: {tried}"
    )


class FrameCamera(Protocol):
    """Draws the current state of a physics simulation."""

    def frame(self) -> np.ndarray:
        """A new frame, uint8 (3, size, size), that shares no memory with earlier ones."""


def make_camera(
    physics: Physics, *, size: int, camera_id: int, look: str, pose: Pose | None = None
) -> FrameCamera:
    """Build the camera of a look; call before the first frame of this physics is drawn.

    Args:
        physics: what is drawn; its visual settings are changed by the fast look.
        size: height and width in pixels.
        camera_id: camera of the model, or -1 for a free one.
        look: `fast` or `original`.
        pose: where the free camera stands; unset: where it sees the whole model.

    Raises:
        ValueError: no such look.
    """
    if look == "fast":
        return FastCamera(physics, size, camera_id, pose)
    if look == "original":
        return OriginalCamera(physics, size, camera_id, pose)
    raise ValueError(f"look must be one of {', '.join(LOOKS)}; got {look!r}")


class FastCamera:
    """No shadows, reflections or multisampling, and a framebuffer as small as the image.

    Changes the pixels, not the physics; tens of times faster where OpenGL runs on the CPU.
    """

    def __init__(self, physics: Physics, size: int, camera_id: int, pose: Pose | None = None) -> None:
        """Set the model's visual quality, which is read when the OpenGL context is made."""
        import mujoco

        visual = physics.model.vis
        visual.quality.shadowsize = 0
        visual.quality.offsamples = 0
        visual.global_.offwidth = visual.global_.offheight = size
        self._camera = _place(physics, size, camera_id, pose)
        self._camera.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False

    def frame(self) -> np.ndarray:
        """See `FrameCamera.frame`."""
        return _channels_first(self._camera.render())


class OriginalCamera:
    """What dm_control and Gymnasium draw when they are left alone, as in published results."""

    def __init__(self, physics: Physics, size: int, camera_id: int, pose: Pose | None = None) -> None:
        """Place the camera."""
        self._camera = _place(physics, size, camera_id, pose)

    def frame(self) -> np.ndarray:
        """See `FrameCamera.frame`."""
        return _channels_first(self._camera.render())


def _place(physics: Physics, size: int, camera_id: int, pose: Pose | None) -> Camera:
    """A camera with the scene it draws, both kept for all frames."""
    from dm_control.mujoco.engine import Camera, MovableCamera

    if camera_id >= 0:
        return Camera(physics, height=size, width=size, camera_id=camera_id)
    camera = MovableCamera(physics, height=size, width=size)
    if pose is not None:
        camera.set_pose(*pose)
    return camera


def _channels_first(image: np.ndarray) -> np.ndarray:
    # (H, W, 3) -> (3, H, W); a copy, because the renderer draws into the same buffer again
    return image.transpose(2, 0, 1).copy()
