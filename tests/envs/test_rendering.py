from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from envs import make_env
from envs.rendering import (
    PACKAGES,
    Backend,
    RenderingUnavailableError,
    ensure_backend,
    probe_backend,
    select_backend,
    try_backend,
)

ROOT = Path(__file__).parents[2]
TO_INSTALL = r"apt-get install libegl1 libgl1-mesa-dri libopengl0.*apt-get install libosmesa6"
WORKS = "echo some log; echo 'renderer: llvmpipe (LLVM 15)'"
BROKEN = "echo a traceback >&2; echo 'ImportError: no driver' >&2; exit 1"

Machine = Callable[..., Callable[[], list[str]]]


def test_the_first_backend_that_draws_is_chosen(machine: Machine) -> None:
    tried = machine(egl=WORKS, osmesa=WORKS)
    assert select_backend() == Backend("egl", "llvmpipe (LLVM 15)")
    assert (os.environ["MUJOCO_GL"], os.environ["PYOPENGL_PLATFORM"]) == ("egl", "egl")
    assert select_backend().name == "egl"
    assert tried() == ["egl egl"]  # the second time the answer was known


@pytest.mark.parametrize("broken", [BROKEN, f"{WORKS}; kill -SEGV $$", "exit 0", "exec sleep 60"])
def test_a_backend_that_fails_crashes_draws_nothing_or_hangs_is_passed_over(
    machine: Machine, broken: str
) -> None:
    tried = machine(egl=broken, osmesa=WORKS)
    start = time.monotonic()
    assert select_backend(timeout_s=1.0).name == "osmesa"
    assert time.monotonic() - start < 10
    assert tried() == ["egl egl", "osmesa osmesa"]
    assert (os.environ["MUJOCO_GL"], os.environ["PYOPENGL_PLATFORM"]) == ("osmesa", "osmesa")


def test_a_window_is_the_last_resort_and_needs_a_display(machine: Machine) -> None:
    tried = machine(egl=BROKEN, osmesa=BROKEN, glfw=WORKS)
    with pytest.raises(RenderingUnavailableError):
        select_backend()
    os.environ["DISPLAY"] = ":0"
    assert select_backend().name == "glfw"
    assert os.environ["MUJOCO_GL"] == "glfw" and "PYOPENGL_PLATFORM" not in os.environ
    assert tried() == ["egl egl", "osmesa osmesa"] * 2 + ["glfw "]


def test_the_users_choice_is_the_only_one_tried(machine: Machine) -> None:
    tried = machine(egl=WORKS, osmesa=WORKS)
    os.environ["MUJOCO_GL"] = " OSMesa "
    assert select_backend().name == "osmesa"
    assert os.environ["MUJOCO_GL"] == "osmesa"  # dm_control knows lower case only
    assert tried() == ["osmesa osmesa"]


def test_a_users_choice_that_fails_is_named(machine: Machine) -> None:
    tried = machine(egl=WORKS, osmesa=BROKEN)
    os.environ["MUJOCO_GL"] = "osmesa"
    with pytest.raises(
        RenderingUnavailableError, match=f"{TO_INSTALL}.*MUJOCO_GL=osmesa.*unset it"
    ) as failure:
        select_backend()
    assert str(failure.value).endswith("Tried: osmesa: ImportError: no driver")
    assert tried() == ["osmesa osmesa"]
    assert os.environ["MUJOCO_GL"] == "osmesa"


def test_where_nothing_works_one_message_says_what_to_install(machine: Machine) -> None:
    machine(egl="exec sleep 60", osmesa="exit 3")
    with pytest.raises(RenderingUnavailableError, match=TO_INSTALL) as failure:
        select_backend(timeout_s=0.5)
    message = str(failure.value)
    assert "\n" not in message and "unset" not in message
    assert message.endswith("; osmesa: exit status 3")
    assert "Tried: egl: no frame within 0.5 s (a driver that hangs, or a busy machine" in message
    assert "MUJOCO_GL" not in os.environ


def test_what_draws_nothing_can_do_without(machine: Machine) -> None:
    tried = machine(egl=BROKEN, osmesa=BROKEN)
    assert try_backend() is None
    assert os.environ["MUJOCO_GL"] == "off", "MuJoCo looks for none"
    assert tried() == ["egl egl", "osmesa osmesa"]
    with pytest.raises(RenderingUnavailableError) as failure:
        ensure_backend()
    assert "unset" not in str(failure.value), "the user has not set it"
    ensure_backend(needed=False)
    machine(osmesa=WORKS)
    found = try_backend()
    assert found is not None and found.name == os.environ["MUJOCO_GL"] == "osmesa"


def test_a_failure_is_not_remembered(machine: Machine) -> None:
    machine(egl=BROKEN, osmesa=BROKEN)
    with pytest.raises(RenderingUnavailableError):
        select_backend()
    machine(egl=WORKS)
    assert select_backend().name == "egl"


def test_a_worker_trusts_the_choice_of_its_parent(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = machine(egl=WORKS, osmesa=WORKS)
    os.environ["MUJOCO_GL"] = "osmesa"
    with monkeypatch.context() as worker:
        worker.setattr(multiprocessing, "parent_process", multiprocessing.current_process)
        ensure_backend()
        assert tried() == []
        del os.environ["MUJOCO_GL"]  # its parent has chosen nothing
        ensure_backend()
        assert tried() == ["egl egl"] and os.environ["MUJOCO_GL"] == "egl"
    os.environ["MUJOCO_GL"] = "osmesa"
    ensure_backend()
    assert tried() == ["egl egl", "osmesa osmesa"]


def test_without_drivers_making_an_environment_says_what_to_install() -> None:
    hidden = {"__EGL_VENDOR_LIBRARY_FILENAMES": "/nowhere", "MUJOCO_GL": "egl"}
    code = """
from envs import make_env
from envs.rendering import RenderingUnavailableError
try:
    make_env("cartpole-swingup")
except RenderingUnavailableError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **hidden},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "`apt-get install libegl1 libgl1-mesa-dri libopengl0`" in done.stdout
    assert "Tried: egl: " in done.stdout


@pytest.mark.parametrize(
    ("renderer", "software"),
    [
        ("llvmpipe (LLVM 15.0.6, 256 bits)", True),
        ("softpipe", True),
        ("Google SwiftShader", True),
        ("Software Rasterizer", True),
        ("NVIDIA H200/PCIe/SSE2", False),
        ("Mesa Intel(R) UHD Graphics 620 (KBL GT2)", False),
    ],
)
def test_what_draws_on_the_cpu_is_known_by_its_name(renderer: str, software: bool) -> None:
    assert Backend("egl", renderer).is_software is software


def test_setting_up_installs_what_the_message_recommends() -> None:
    script = (ROOT / "scripts" / "setup_gl.sh").read_text(encoding="utf-8")
    assert f'packages="{PACKAGES["egl"].removeprefix("apt-get install ")}"' in script


@pytest.mark.gl
def test_the_backend_of_this_machine_says_what_it_is() -> None:
    backend = probe_backend(os.environ["MUJOCO_GL"])
    assert backend.name == os.environ["MUJOCO_GL"] and backend.renderer


@pytest.mark.gl
@pytest.mark.parametrize("size", [64, 84])
@pytest.mark.parametrize("task", ["cartpole-swingup", "reacher-easy", "gym/Hopper-v5", "gym/Pusher-v5"])
def test_looks_differ_in_pixels_and_in_nothing_else(task: str, size: int) -> None:
    fast, original = (make_env(task, size=size, look=look, stack=1) for look in ("fast", "original"))
    actions = [fast.action_space.sample() for _ in range(5)]
    results = []
    for env in (fast, original):
        obs, info = env.reset(seed=3)
        results.append([(obs, 0.0, False, False, info), *(env.step(action) for action in actions)])
    for one, other in zip(*results, strict=True):
        assert one[0].shape == other[0].shape == (3, size, size)
        difference = np.abs(one[0].astype(int) - other[0]).mean()
        assert 0.1 < difference < 60, "another look of the same scene"
        assert one[1:4] == other[1:4]
        np.testing.assert_array_equal(one[4]["physics"], other[4]["physics"])


@pytest.mark.gl
def test_an_unknown_look_is_refused() -> None:
    with pytest.raises(ValueError, match="look must be one of fast, original; got 'pretty'"):
        make_env("cartpole-swingup", look="pretty")
