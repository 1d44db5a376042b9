from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from configs.load import ConfigError
from scripts import manifest


def facts(**changes: Any) -> dict[str, Any]:
    """What a manifest says of everything that changes a run's numbers."""
    known = {
        "started": "2026-01-01",
        "device": "cpu",
        "versions": {"mujoco": "3.17", "torch": "2.13"},
        "rendering": {"backend": "egl", "renderer": "llvmpipe"},
    }
    return known | changes


def test_processes_before_this_one_stay_on_record(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    for day in ("first", "second", "third"):
        found = manifest.with_earlier(facts(started=day), path, goes_on=True)
        path.write_text(json.dumps(found), encoding="utf-8")
    assert found["started"] == "third"
    assert [each["started"] for each in found["earlier"]] == ["first", "second"]
    assert not any("earlier" in each for each in found["earlier"])


@pytest.mark.parametrize("goes_on", [True, False])
def test_only_a_run_that_goes_on_has_the_start_of_the_processes_before(tmp_path: Path, goes_on: bool) -> None:
    path = tmp_path / "manifest.json"
    start = {"from": {"path": "other"}, "encoder": {"path": "it"}}
    path.write_text(json.dumps(facts(**start)), encoding="utf-8")
    found = manifest.with_earlier(facts(), path, goes_on=goes_on)
    assert {name: found[name] for name in start if name in found} == (start if goes_on else {})
    assert found["earlier"] == [facts(**start)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"started": "later", "command": ["nearfar"]}, []),
        ({"versions": {"mujoco": "3.18", "torch": "2.13"}}, ["mujoco was 3.17, now 3.18"]),
        (
            {"rendering": {"backend": "osmesa", "renderer": "softpipe"}},
            ["renderer was llvmpipe, now softpipe"],
        ),
        ({"device": "cuda"}, ["device was cpu, now cuda"]),
    ],
)
def test_what_changes_the_numbers_is_told(
    tmp_path: Path, changes: dict[str, Any], expected: list[str]
) -> None:
    path = tmp_path / "manifest.json"
    assert manifest.changes_since(manifest.with_earlier(facts(), path, goes_on=True)) == []
    path.write_text(json.dumps(facts()), encoding="utf-8")
    assert manifest.changes_since(manifest.with_earlier(facts(**changes), path, goes_on=True)) == expected


@pytest.mark.parametrize("text", ["{", "{}", "[]", "null"])
def test_damaged_manifest_names_the_remedy(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"damaged .*remove it"):
        manifest.with_earlier(facts(), tmp_path / "manifest.json", goes_on=True)


@pytest.mark.parametrize(
    "error", [FileNotFoundError("git"), subprocess.TimeoutExpired("git", 10)], ids=["absent", "slow"]
)
def test_a_run_needs_no_git(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def failing(*arguments: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(subprocess, "run", failing)
    assert manifest._git_state(Path.cwd()) is None
