from __future__ import annotations

import json

import pytest

import scripts.bench
from scripts.bench import main

pytestmark = pytest.mark.gl

KEYS = {
    "device",
    "preset",
    "render_fps",
    "env_steps_per_s",
    "sample_ms",
    "augment_ms",
    "update_ms",
    "act_ms",
    "updates_per_s",
    "peak_rss_mb",
}


def test_every_part_is_timed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--preset", "debug", "--device", "cpu", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result.keys() >= KEYS
    assert (result["device"], result["preset"]) == ("cpu", "debug")
    assert all(result[key] > 0 for key in KEYS - {"device", "preset"})
    assert sum(result["shares"].values()) == pytest.approx(1)
    assert sum(result["memory_mb"].values()) == pytest.approx(result["peak_rss_mb"])
    assert sum(result["memory_shares"].values()) == pytest.approx(1)
    assert min(result["memory_mb"].values()) > 0
    assert result["updates_per_s"] == pytest.approx(1000 / (result["update_ms"] + result["sample_ms"]))


def test_text_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--preset", "debug", "--device", "cpu", "--envs", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split() == ["envs", "2"] for line in lines)
    assert any(line.startswith("share of update") for line in lines)
    assert any(line.startswith("memory share of networks") for line in lines)


def test_environments_side_by_side_are_timed_when_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert scripts.bench.POOL_SIZES == (1, 2, 4, 8)
    monkeypatch.setattr(scripts.bench, "POOL_SIZES", (1, 2))
    assert main(["--preset", "debug", "--device", "cpu", "--pool", "--json"]) == 0
    rates = json.loads(capsys.readouterr().out)["pool_steps_per_s"]
    assert list(rates) == ["1", "2"]
    assert all(rate > 0 for rate in rates.values())
    text = scripts.bench._as_text({"shares": {}, "pool_steps_per_s": rates})
    assert "steps_per_s of 2 environments" in text
