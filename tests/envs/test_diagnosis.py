from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from envs.diagnosis import _LIBRARIES, SIMULATORS, RendererReport, examine_backend, library_problem
from envs.rendering import PACKAGES, probe_backend

ROOT = Path(__file__).parents[2]
DRAWS = "echo 'renderer: llvmpipe (LLVM 15)'"
WORKS = f"{DRAWS}; echo 'answer: 1234.56'"
BROKEN = "echo 'ImportError: no driver' >&2; exit 1"
GOOD = RendererReport("egl", "llvmpipe (LLVM 15)", software=True, fps=1234.6, ok=True)

Machine = Callable[..., Callable[[], list[str]]]


def where(condition: str, then: str, otherwise: str) -> str:
    return f"if {condition}; then {then}; else {otherwise}; fi"


def asked(program: str) -> str:
    """Whether the process was started with a program that contains this."""
    return f'echo "$2" | grep -q {program}'


def test_a_backend_that_draws_is_timed_with_a_task(machine: Machine) -> None:
    tried = machine(egl=WORKS)
    assert examine_backend("egl") == GOOD
    assert tried() == ["egl egl"] * 2


def test_a_driver_that_works_for_no_task_points_at_the_simulators(machine: Machine) -> None:
    machine(egl=where(asked("frames_per_second"), BROKEN, DRAWS))
    assert examine_backend("egl") == replace(
        GOOD, fps=None, ok=False, error="ImportError: no driver", fix=SIMULATORS
    )


def test_the_simulators_that_are_recommended_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [name for name in project["dependencies"] if name.startswith(("dm-control", "mujoco"))]
    assert f"pip install {' '.join(map(repr, needed))}" == SIMULATORS


@pytest.mark.parametrize("name", PACKAGES)
def test_a_library_that_is_absent_is_to_be_installed(machine: Machine, name: str) -> None:
    library = {"egl": "libEGL", "osmesa": "libOSMesa"}[name]
    absent = f"{library}.so: cannot open shared object file"
    machine(**{name: where(asked("library_problem"), f"echo 'answer: {absent}'", BROKEN)})
    assert examine_backend(name) == RendererReport(name, error=absent, fix=PACKAGES[name])


@pytest.mark.parametrize(
    ("loader", "error"),
    [
        ("echo 'answer: '", "ImportError: no driver"),
        ("echo 'answer: /lib/libEGL.so: file too short'", "/lib/libEGL.so: file too short"),
        ("kill -SEGV $$", "ImportError: no driver"),
    ],
    ids=["loads", "damaged", "crashes"],
)
def test_a_library_that_is_there_and_draws_nothing_is_to_be_installed_again(
    machine: Machine, loader: str, error: str
) -> None:
    machine(egl=where(asked("library_problem"), loader, BROKEN))
    fix = "apt-get install --reinstall libegl1 libegl-mesa0 libgl1-mesa-dri libopengl0"
    assert examine_backend("egl") == RendererReport("egl", error=error, fix=fix)


@pytest.mark.parametrize(
    ("works_if", "fix"),
    [
        ('test -z "$LD_LIBRARY_PATH"', "unset LD_LIBRARY_PATH"),
        ('test -z "$LD_LIBRARY_PATH$MUJOCO_EGL_DEVICE_ID"', "unset LD_LIBRARY_PATH MUJOCO_EGL_DEVICE_ID"),
        ("false", "apt-get install --reinstall libegl1 libegl-mesa0 libgl1-mesa-dri libopengl0"),
    ],
)
def test_variables_that_hide_a_driver_are_found_by_leaving_them_out(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, works_if: str, fix: str
) -> None:
    for variable in ("LD_LIBRARY_PATH", "MUJOCO_EGL_DEVICE_ID"):
        monkeypatch.setenv(variable, "/nowhere")
    machine(egl=where(works_if, WORKS, BROKEN))
    assert examine_backend("egl").fix == fix


def test_a_library_that_is_hidden_and_absent_needs_both(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/damaged")
    loader = where(
        'test -n "$LD_LIBRARY_PATH"',
        "echo 'answer: /damaged/libEGL.so: file too short'",
        "echo 'answer: libEGL.so: cannot open shared object file'",
    )
    machine(egl=where(asked("library_problem"), loader, BROKEN))
    assert examine_backend("egl").fix == f"unset LD_LIBRARY_PATH && {PACKAGES['egl']}"


def test_a_backend_that_hangs_is_to_be_tried_again(machine: Machine) -> None:
    tried = machine(egl="exec sleep 60")
    report = examine_backend("egl", timeout_s=0.5)
    assert not report.ok and "no frame within 0.5 s" in str(report.error)
    assert "try again when the machine is idle" in str(report.fix)
    assert tried() == ["egl egl"]


def test_a_crash_is_named(machine: Machine) -> None:
    machine(egl="kill -SEGV $$")
    assert examine_backend("egl").error == "killed by SIGSEGV"


def test_windows_without_a_display_are_no_fault(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    machine(glfw=BROKEN)
    report = examine_backend("glfw")
    assert (report.ok, report.fix) == (False, None)
    assert "DISPLAY is not set" in str(report.error)
    os.environ["DISPLAY"] = ":0"
    report = examine_backend("glfw")
    assert report.error == "ImportError: no driver" and "DISPLAY" in str(report.fix)


@pytest.mark.parametrize(
    ("libraries", "problem"),
    [
        ([("libc",)], ""),
        ([("libNone", "libc"), ("libm", "libNeither")], ""),
        ([("libc",), ("libNone", "libNeither")], "libNone.so: cannot open shared object file: No such file"),
    ],
)
def test_one_library_of_each_group_is_enough(
    monkeypatch: pytest.MonkeyPatch, libraries: list[tuple[str, ...]], problem: str
) -> None:
    monkeypatch.setitem(_LIBRARIES, "egl", libraries)
    found = library_problem("egl")
    assert found.startswith(problem) and bool(found) == bool(problem)


@pytest.fixture
def egl(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Lets a test change what processes inherit, on a machine that draws with EGL."""
    if os.environ["MUJOCO_GL"] != "egl":
        pytest.skip("about EGL, with which nothing is drawn here")
    probe_backend.cache_clear()
    yield monkeypatch
    probe_backend.cache_clear()


def empty_libraries(folder: Path) -> None:
    """Files that the loader finds first and cannot use."""
    for name in ("libEGL.so", *(f"libEGL.so.{version}" for version in range(10))):
        (folder / name).touch()


@pytest.mark.gl
def test_a_damaged_library_on_the_loaders_path_is_named(egl: pytest.MonkeyPatch, tmp_path: Path) -> None:
    empty_libraries(tmp_path)
    egl.setenv("LD_LIBRARY_PATH", str(tmp_path))
    report = examine_backend("egl")
    assert (report.ok, report.renderer, report.fps) == (False, None, None)
    assert report.error == f"{tmp_path}/libEGL.so: file too short"
    assert report.fix == "unset LD_LIBRARY_PATH"
