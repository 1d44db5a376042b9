from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts import machine
from scripts.launch import ALLOCATOR


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of this name that is found first; a test writes what it does."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    path = tmp_path / "nvidia-smi"
    path.touch(mode=0o755)
    return path


@pytest.mark.parametrize(
    ("mujoco", "needs", "fits"),
    [
        ("3.17.0", "mujoco>=3.17.0", True),
        ("3.20.1", "mujoco>=3.17.0", True),
        ("3.16.9", "mujoco>=3.17.0", False),
        ("3.9.0", "mujoco (>=3.17.0)", False),
        ("4.0.0", "mujoco>=3.17.0", False),
        ("4.0.0rc1", "mujoco>=3.17.0", False),
        ("3.2.0", "mujoco-mjx>=3.17.0", True),
        (None, "mujoco>=3.17.0", False),
    ],
)
def test_mujoco_fits_dm_control(
    monkeypatch: pytest.MonkeyPatch, mujoco: str | None, needs: str, fits: bool
) -> None:
    monkeypatch.setattr(machine, "_version", {"mujoco": mujoco, "dm-control": "1.0.50"}.get)
    monkeypatch.setattr("importlib.metadata.requires", lambda name: ["numpy>=9.0", needs])
    assert machine.mujoco_fits() is fits


def test_the_versions_of_these_tests_fit() -> None:
    assert machine.mujoco_fits()


def test_a_package_that_is_absent_has_no_version() -> None:
    found = machine.versions(("torch", "no-such-package"))
    assert found == {"torch": torch.__version__, "no-such-package": None}


@pytest.mark.parametrize(("text", "limit"), [("max\n", None), ("8589934592\n", 8.0), (None, None)])
def test_memory_limit_of_a_container(tmp_path: Path, text: str | None, limit: float | None) -> None:
    path = tmp_path / "memory.max"
    if text is not None:
        path.write_text(text)
    assert machine.memory_limit_gib(path) == limit


def test_disk_of_a_directory_that_is_yet_to_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "runs" / "deeper"
    found = machine.disk(path)
    assert (found["path"], found["writable"]) == (str(path), True)
    assert found["free_gib"] >= 0
    monkeypatch.setattr(os, "access", lambda place, mode: place != tmp_path)
    assert not machine.disk(path)["writable"]


@pytest.mark.skipif(sys.platform != "linux", reason="settings of glibc")
def test_allocator_is_active_with_all_settings_as_the_launcher_has_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in ALLOCATOR.items():
        monkeypatch.setenv(name, value)
    assert machine.allocator() == {"active": True, "libc": "glibc", "settings": ALLOCATOR}
    monkeypatch.setenv("MALLOC_TOP_PAD_", "4096")
    assert not machine.allocator()["active"]
    monkeypatch.delenv("MALLOC_TOP_PAD_")
    found = machine.allocator()
    assert not found["active"] and found["settings"]["MALLOC_TOP_PAD_"] is None


def test_gpus_as_the_driver_and_torch_see_them(nvidia_smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Properties:
        name, total_memory, major, minor = "NVIDIA H200", 139 << 30, 9, 0

    nvidia_smi.write_text("#!/bin/sh\necho '580.65.06, NVIDIA H200'\necho '580.65.06, NVIDIA H200'\n")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: Properties)
    assert machine.gpu() == {
        "devices": [{"name": "NVIDIA H200", "memory_gib": 139.0, "capability": "9.0"}],
        "error": None,
        "cuda": "13.0",
        "driver": "580.65.06",
        "installed": ["NVIDIA H200", "NVIDIA H200"],
        "importable": True,
    }


@pytest.mark.parametrize("error", [AssertionError("no CUDA\nmore"), RuntimeError("no CUDA")])
@pytest.mark.parametrize("program", ["exit 9", "echo No devices were found", ""])
def test_why_there_is_no_gpu(
    nvidia_smi: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, program: str
) -> None:
    def init() -> None:
        raise error

    nvidia_smi.write_text(f"#!/bin/sh\n{program}\n")
    monkeypatch.setattr(torch.cuda, "init", init)
    found = machine.gpu()
    assert (found["devices"], found["error"]) == ([], "no CUDA")
    assert (found["driver"], found["installed"]) == (None, [])


def test_a_broken_torch_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    found: dict[str, Any] = machine.gpu()
    assert found["cuda"] is None and found["error"].startswith("torch cannot be imported: ")
    assert found["importable"] is False
