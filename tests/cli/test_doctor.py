from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from envs import diagnosis
from envs.diagnosis import RendererReport
from envs.rendering import probe_backend
from scripts.doctor import main
from scripts.launch import ALLOCATOR

ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "benchmarks" / "results" / "doctor").glob("*.json"))


@pytest.fixture
def drawing(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Lets a test hide drivers from processes; what was found before is forgotten."""
    if os.environ["MUJOCO_GL"] != "egl":
        pytest.skip("about EGL, with which nothing is drawn here")
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    for name, value in ALLOCATOR.items():
        monkeypatch.setenv(name, value)
    probe_backend.cache_clear()
    yield monkeypatch
    probe_backend.cache_clear()


@pytest.fixture
def working(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Backends that make believe to work; the others make believe to fail."""
    names = {"egl"}

    def examine(name: str) -> RendererReport:
        if name in names:
            return RendererReport(name, "llvmpipe", software=True, fps=1234.6, ok=True)
        return RendererReport(name, error=f"no {name}", fix=f"install {name}")

    monkeypatch.setattr(diagnosis, "examine_backend", examine)
    for variable in ("MUJOCO_GL", "DISPLAY"):
        monkeypatch.delenv(variable, raising=False)
    return names


def doctor(capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    code = main(["--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.gl
def test_hidden_drivers_are_found_and_come_back(
    drawing: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No vendor for EGL, no library that the loader could use for OSMesa, no display."""
    with drawing.context() as hidden:
        for suffix in ("", *(f".{version}" for version in range(10))):
            (tmp_path / f"libOSMesa.so{suffix}").touch()
        (tmp_path / "envs.py").touch()  # not what the processes should import
        hidden.chdir(tmp_path)
        hidden.setenv("__EGL_VENDOR_LIBRARY_DIRS", str(tmp_path))
        hidden.setenv("LD_LIBRARY_PATH", str(tmp_path))
        for variable in ("DISPLAY", "WAYLAND_DISPLAY"):
            hidden.delenv(variable, raising=False)
        code, found = doctor(capsys)
    assert (code, found["backend"]) == (1, None)
    egl, osmesa, glfw = found["renderers"]
    assert [report["ok"] for report in (egl, osmesa, glfw)] == [False] * 3
    assert "Cannot initialize a EGL device display" in egl["error"]
    assert egl["fix"] == "unset __EGL_VENDOR_LIBRARY_DIRS"
    assert osmesa["error"] == f"{tmp_path}/libOSMesa.so: file too short"
    assert "DISPLAY is not set" in glfw["error"] and glfw["fix"] is None
    rendering = [fault for fault in found["faults"] if "no backend draws frames" in fault["fault"]]
    assert [fault["fix"] for fault in rendering] == [egl["fix"], osmesa["fix"]]

    code, found = doctor(capsys)
    assert code == 0
    assert not any("no backend" in fault["fault"] for fault in found["faults"])
    (used,) = [report for report in found["renderers"] if report["backend"] == found["backend"]]
    assert used["ok"] and used["renderer"] and used["fps"] > 0


@pytest.mark.gl
def test_a_choice_that_does_not_exist_fails_alone(
    drawing: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawing.setenv("MUJOCO_GL", "opengl")
    code, found = doctor(capsys)
    assert (code, found["backend"], found["mujoco_gl"]) == (1, None, "opengl")
    chosen = found["renderers"][-1]
    assert chosen["backend"] == "opengl" and not chosen["ok"]
    assert chosen["error"].endswith("invalid value for environment variable MUJOCO_GL: opengl")
    assert chosen["fix"] == "unset MUJOCO_GL"
    drawn = [report["backend"] for report in found["renderers"] if report["ok"]]
    assert found["faults"][0]["fix"] == f"export MUJOCO_GL={drawn[0]}"


def test_json_has_what_others_rely_on(working: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, found = doctor(capsys)
    assert code == 0
    assert [report["backend"] for report in found["renderers"]] == ["egl", "osmesa", "glfw"]
    assert found["renderers"][0].keys() >= {"backend", "renderer", "fps", "ok", "error"}
    assert {"devices", "error", "driver", "cuda"} <= found["gpu"].keys()
    assert found["versions"].keys() >= {
        "python",
        "torch",
        "mujoco",
        "dm-control",
        "gymnasium",
        "numpy",
        "nearfar",
    }
    assert found["hardware"]["cores"] > 0 and found["hardware"]["memory_gib"] > 0
    assert found["disk"]["free_gib"] >= 0 and isinstance(found["allocator"]["active"], bool)


@pytest.mark.parametrize(
    ("works", "environment", "used"),
    [
        ({"egl", "osmesa"}, {}, "egl"),
        ({"osmesa"}, {}, "osmesa"),
        ({"glfw"}, {}, None),
        ({"glfw"}, {"DISPLAY": ":0"}, "glfw"),
        ({"egl"}, {"MUJOCO_GL": " EGL "}, "egl"),
        ({"egl"}, {"MUJOCO_GL": "osmesa"}, None),
        (set(), {}, None),
    ],
)
def test_exit_code_says_whether_training_could_draw(
    working: set[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    works: set[str],
    environment: dict[str, str],
    used: str | None,
) -> None:
    working.clear()
    working.update(works)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    code, found = doctor(capsys)
    assert (found["backend"], code) == (used, 0 if used else 1)
    assert bool(used) == ("draws frames" not in json.dumps(found["faults"]))


def test_text_is_for_people(working: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    text = capsys.readouterr().out
    assert "* egl     1,235 frames/s on the CPU: llvmpipe" in text
    assert "  osmesa  no frames: no osmesa\n          to have it: install osmesa" in text
    assert text.endswith("training draws with egl\n")
    working.clear()
    assert main([]) == 1
    text = capsys.readouterr().out
    assert "fault: no backend draws frames; egl: no egl\n  fix: install egl" in text
    assert text.endswith("training cannot draw frames here\n")


def test_a_broken_torch_stops_training(
    working: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libtorch_cpu.so: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setenv("PATH", str(tmp_path))  # no nvidia-smi either
    code, found = doctor(capsys)
    assert code == 1
    (fault,) = [fault for fault in found["faults"] if "torch" in fault["fault"]]
    assert "libtorch_cpu.so: cannot open" in fault["fault"]
    assert fault["fix"].startswith("pip install ")
    assert main([]) == 1
    text = capsys.readouterr().out
    assert f"  fix: {fault['fix']}" in text
    assert text.endswith("training cannot start here\n")


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_the_documented_messages_are_those_that_were_printed(path: Path) -> None:
    text = (ROOT / "docs" / "rendering.md").read_text(encoding="utf-8")
    for report in json.loads(path.read_text(encoding="utf-8"))["renderers"]:
        assert report["ok"] or report["error"] in text
        assert report["fix"] is None or report["fix"] in text
