"""The wheel: what is in it, and that its command runs far from the checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES: list[str] = PROJECT["tool"]["setuptools"]["packages"]


def pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", *map(str, arguments), "--no-deps", "--no-index", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, because setuptools writes beside its sources."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for room in {package.partition(".")[0] for package in PACKAGES} | {"tests"}:
        shutil.copytree(ROOT / room, source / room, ignore=shutil.ignore_patterns("__pycache__"))
    pip("wheel", source, "--wheel-dir", target, "--no-build-isolation")
    (path,) = target.glob("*.whl")
    return path


def test_every_package_is_listed() -> None:
    rooms = {package.partition(".")[0] for package in PACKAGES}
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for room in rooms
        for path in (ROOT / room).rglob("*.py")
    }
    assert found == set(PACKAGES)


def test_wheel_holds_modules_and_data_and_no_tests(wheel: Path) -> None:
    rooms = sorted({package.partition(".")[0] for package in PACKAGES})
    wanted = {
        path.relative_to(ROOT).as_posix()
        for room in rooms
        for pattern in ("*.py", "*.yaml", "*.html")
        for path in (ROOT / room).rglob(pattern)
    }
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == wanted


def test_command_runs_from_another_directory(wheel: Path, tmp_path: Path) -> None:
    target, elsewhere = tmp_path / "target", tmp_path / "elsewhere"
    elsewhere.mkdir()
    pip("install", wheel, "--target", target)
    for arguments, text in (
        (["--version"], f"nearfar {PROJECT['project']['version']}"),
        (["train", "--preset", "debug", "--help"], "--world-model.objective"),
    ):
        done = subprocess.run(
            [sys.executable, target / "bin" / "nearfar", *arguments],
            cwd=elsewhere,
            env=os.environ | {"PYTHONPATH": str(target), "PYTHONSAFEPATH": "1"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert text in done.stdout


def test_lock_pins_every_dependency_to_a_published_version() -> None:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", pin) for pin in pins), (
        "no URLs, no local labels"
    )
    locked = {_normal(pin) for pin in pins}
    extra = PROJECT["project"]["optional-dependencies"]["dev"]
    assert {_normal(name) for name in PROJECT["project"]["dependencies"] + extra} <= locked


def _normal(requirement: str) -> str:
    name = re.split(r"[<>=]", requirement)[0]
    return re.sub(r"[-_.]+", "-", name).lower()
