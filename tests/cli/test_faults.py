from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from scripts.faults import TORCH, find_faults
from scripts.launch import ALLOCATOR

EGL = {"backend": "egl", "renderer": "llvmpipe", "software": True, "ok": True, "error": None, "fix": None}
NO_EGL = EGL | {"renderer": None, "software": None, "ok": False, "error": "no driver", "fix": "install EGL"}
NO_GLFW = NO_EGL | {"backend": "glfw", "error": "no display", "fix": None}
NO_GPU: dict[str, Any] = {
    "devices": [],
    "error": "no CUDA",
    "cuda": None,
    "driver": None,
    "installed": [],
    "importable": True,
}
NO_TORCH = NO_GPU | {
    "error": "torch cannot be imported: libcudart.so: not found\nand so on",
    "importable": False,
}
GPU = NO_GPU | {"devices": [{"name": "H200"}], "error": None, "installed": ["H200"]}


def machine(**different: Any) -> dict[str, Any]:
    """A healthy machine without a GPU, except for what differs."""
    return {
        "backend": "egl",
        "mujoco_gl": None,
        "renderers": [EGL, NO_GLFW],
        "gpu": NO_GPU,
        "versions": {"torch": "2.13.0+cpu", "mujoco": "3.17.0", "dm-control": "1.0.50"},
        "mujoco_fits": True,
        "disk": {"path": "runs", "free_gib": 50.0, "writable": True},
        "allocator": {"active": True, "libc": "glibc", "settings": ALLOCATOR},
    } | different


def test_a_healthy_machine_has_none() -> None:
    assert find_faults(machine()) == []
    software_is_all_there_is = machine(renderers=[EGL, NO_EGL | {"backend": "osmesa"}])
    assert find_faults(software_is_all_there_is) == []
    hardware = machine(gpu=GPU, renderers=[EGL | {"renderer": "NVIDIA H200", "software": False}])
    assert find_faults(hardware) == []


@pytest.mark.parametrize(
    ("different", "fault", "fix"),
    [
        (
            {"backend": None, "renderers": [NO_EGL, NO_GLFW]},
            "no backend draws frames; egl: no driver",
            "install EGL",
        ),
        (
            {"backend": None, "mujoco_gl": "osmesa", "renderers": [EGL, NO_EGL | {"backend": "osmesa"}]},
            "egl draws frames, but MUJOCO_GL is set to osmesa",
            "export MUJOCO_GL=egl",
        ),
        (
            {"backend": None, "renderers": [NO_EGL, EGL | {"backend": "glfw"}]},
            "glfw draws frames, but MUJOCO_GL is not set",
            "export MUJOCO_GL=glfw",
        ),
        ({"mujoco_fits": False}, "mujoco 3.17.0 and dm-control 1.0.50", "'mujoco>=3.17,<4'"),
        ({"disk": machine()["disk"] | {"writable": False}}, "runs cannot be written", "--out"),
        ({"disk": machine()["disk"] | {"free_gib": 0.4}}, "0.4 GiB are free for runs", "free 2 GiB"),
        ({"gpu": GPU}, "llvmpipe draws on the CPU beside a GPU", "egl_vendor.d/10_nvidia.json"),
        (
            {"allocator": {"active": False, "libc": "glibc", "settings": dict.fromkeys(ALLOCATOR)}},
            "page faults",
            "start it as `nearfar`",
        ),
        (
            {
                "allocator": {
                    "active": False,
                    "libc": "glibc",
                    "settings": ALLOCATOR | {"MALLOC_TOP_PAD_": "1"},
                }
            },
            "page faults",
            "unset MALLOC_TOP_PAD_",
        ),
    ],
)
def test_each_fault_has_its_remedy(different: dict[str, Any], fault: str, fix: str) -> None:
    (found,) = find_faults(machine(**different))
    assert fault in found.fault
    assert fix in found.fix


@pytest.mark.parametrize(
    ("visible", "cuda", "fix"),
    [
        (None, None, "pip install --force-reinstall torch==2.13.0 (a build with CUDA)"),
        ("", "13.0", "unset CUDA_VISIBLE_DEVICES"),
        (None, "13.0", "install a newer NVIDIA driver"),
    ],
)
def test_a_gpu_that_torch_cannot_use(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, cuda: str | None, fix: str
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    hardware = [EGL | {"software": False}]
    found = find_faults(machine(gpu=GPU | {"devices": [], "error": "why", "cuda": cuda}, renderers=hardware))
    assert [(one.fault, one.fix[: len(fix)]) for one in found] == [("torch cannot use H200: why", fix)]


@pytest.mark.parametrize(
    ("version", "fix"),
    [("2.13.0+cpu", "pip install --force-reinstall torch==2.13.0"), (None, "pip install 'torch>=2.10'")],
)
@pytest.mark.parametrize("installed", [[], ["H200"]])
def test_a_torch_that_cannot_be_imported(installed: list[str], version: str | None, fix: str) -> None:
    versions = machine()["versions"] | {"torch": version}
    hardware = [EGL | {"software": False}]
    found = find_faults(
        machine(gpu=NO_TORCH | {"installed": installed}, versions=versions, renderers=hardware)
    )
    assert found == [("torch cannot be imported: libcudart.so: not found", fix)]


def test_the_torch_that_is_asked_for_is_that_of_the_package() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    assert TORCH in project["project"]["dependencies"]


def test_what_stops_a_run_comes_first() -> None:
    found = find_faults(
        machine(
            backend=None, renderers=[NO_EGL], allocator={"active": False, "libc": "glibc", "settings": {}}
        )
    )
    assert ["no backend" in one.fault for one in found] == [True, False]


def test_no_other_libc_is_blamed_for_the_allocator() -> None:
    assert find_faults(machine(allocator={"active": False, "libc": "", "settings": {}})) == []
