"""`nearfar train --from RUN` as a user runs it: another task, from the model and the episodes of a run."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from agent import checkpoint
from agent.sweeps.plan import make_plan
from configs.load import load_config
from configs.schema import Config
from configs.sweep import make_sweep
from envs.episodes import EpisodeStore
from scripts import cli
from scripts.options import parse_config
from scripts.sweep_file import resolved_sweep

pytestmark = pytest.mark.gl

# Nothing is drawn, and an episode has 20 decisions.
QUICK = (
    *("--preset", "debug", "--device", "cpu", "--obs", "state", "--action-repeat", "50"),
    *("--training.threads", "1", "--training.first-updates", "3", "--training.updates-per-step", "0.2"),
    *("--evaluation.every-frames", "9999", "--evaluation.no-videos"),
    *("--logging.no-tensorboard", "--logging.no-progress"),
)


def train(out: Path, *arguments: str | Path) -> int:
    return cli.main(["train", *QUICK, "--out", str(out), *map(str, arguments)])


@pytest.fixture(scope="module")
def balance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in cartpole-balance; never written to by a test."""
    out = tmp_path_factory.mktemp("from") / "balance"
    assert train(out, "--task", "cartpole-balance", "--frames", "2000") == 0
    return out


def test_another_task_from_its_model_and_its_episodes(balance: Path, tmp_path: Path) -> None:
    source = shutil.copytree(balance, tmp_path / "source")
    start = ("--task", "cartpole-swingup_sparse", "--from", source, "--seed", "7")
    assert train(tmp_path / "whole", *start, "--frames", "2000") == 0
    assert train(tmp_path / "halves", *start, "--frames", "1000") == 0
    shutil.rmtree(source)
    assert train(tmp_path / "halves", *start, "--frames", "2000") == 0

    states = [checkpoint.load(checkpoint.numbered(tmp_path / name / "checkpoints", 2000)) for name in
              ("whole", "halves")]  # fmt: skip
    for state in states:
        state["progress"].pop("seconds")
    torch.testing.assert_close(*[state["agent"] for state in states], rtol=0, atol=0)
    assert states[0]["progress"] | {"evaluate_at": 0} == states[1]["progress"] | {"evaluate_at": 0}
    assert states[0]["progress"]["random_steps"] == 0 < states[0]["progress"]["updates"]

    earlier, theirs = EpisodeStore(tmp_path / "whole" / "episodes-before"), EpisodeStore(balance / "episodes")
    assert earlier.shared["task"] == "dmc/cartpole-swingup_sparse"
    assert len(earlier) == len(theirs) == 2
    for identifier in earlier.ids():
        mine, other = earlier.read(identifier), theirs.read(identifier)
        np.testing.assert_array_equal(mine.physics, other.physics)
        np.testing.assert_array_equal(mine.reward % 1, 0)  # a sparse reward a frame
        assert other.reward.sum() > mine.reward.sum() > 0, "it begins upright"

    manifest = json.loads((tmp_path / "halves" / "manifest.json").read_text())
    newest = checkpoint.latest(balance / "checkpoints")
    assert newest is not None
    expected = {
        "path": str(source),
        "checkpoint": newest.name,
        "fingerprint": manifest["from"]["fingerprint"],
        "task": "dmc/cartpole-balance",
        "frames": 2000,
        "episodes": 2,
    }
    assert manifest["from"] == manifest["earlier"][0]["from"] == expected
    assert load_config(tmp_path / "halves" / "config.yaml").from_run == str(source)
    with (tmp_path / "whole" / "eval.csv").open(encoding="utf-8", newline="") as file:
        assert [row["frames"] for row in csv.DictReader(file)] == ["2000"], "frames of its own"


def test_mistakes_are_explained(balance: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    swingup = ("--task", "cartpole-swingup", "--from", balance)
    for flags, message in (
        (("--from", tmp_path / "absent"), "holds no checkpoint: train there first"),
        (("--from", balance, "--task", "pendulum-swingup"), "another domain than dmc/pendulum-swingup"),
        ((*swingup, "--encoder", balance), "from and encoder both say what the agent starts from"),
        (("--from-replay", "none"), "from_replay none is for a run that starts from another one"),
        ((*swingup, "--action-repeat", "25"), "pass --action-repeat 50"),
        ((*swingup, "--obs", "pixels"), "pass --obs state"),
        ((*swingup, "--world-model.hidden-dim", "64"), "pass --world-model.hidden-dim 32"),
        ((*swingup, "--replay.capacity", "12"), "--from-replay none"),
    ):
        assert train(tmp_path / "run", *flags) == 2, message
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, error
        assert not (tmp_path / "run").exists(), "nothing half-made is left"


def test_a_start_that_did_not_happen_is_not_claimed(balance: Path, tmp_path: Path) -> None:
    """A run that is stopped before its first checkpoint, and started again without `--from`."""
    out = tmp_path / "run"
    (out / "episodes-before").mkdir(parents=True)
    shutil.copy(balance / "config.yaml", out)
    manifest = json.loads((balance / "manifest.json").read_text()) | {"from": {"path": "other", "frames": 9}}
    (out / "manifest.json").write_text(json.dumps(manifest))
    assert train(out, "--task", "cartpole-balance", "--frames", "1000") == 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert "from" not in manifest and manifest["earlier"][0]["from"]["frames"] == 9
    assert not (out / "episodes-before").exists()


def test_what_cannot_be_relabelled_is_refused_and_its_model_is_carried(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    easy, hard = tmp_path / "easy", tmp_path / "hard"
    assert train(easy, "--task", "reacher-easy", "--frames", "1000") == 0
    start = ("--task", "reacher-hard", "--from", easy, "--frames", "1000")
    assert train(hard, *start) == 2
    error = capsys.readouterr().err
    assert "dmc/reacher-hard draws where its target is at every reset" in error
    assert "carry its model over alone: --from-replay none" in error and error.count("\n") == 1
    assert not hard.exists()
    assert train(hard, *start, "--from-replay", "none") == 0
    assert not list(hard.glob("episodes-before/*"))
    assert json.loads((hard / "manifest.json").read_text())["from"]["episodes"] == 0

    same = tmp_path / "same"  # where no episode has to be lived again
    assert train(same, "--task", "reacher-easy", "--from", easy, "--frames", "1000") == 0
    mine, theirs = EpisodeStore(same / "episodes-before"), EpisodeStore(easy / "episodes")
    assert len(mine) == len(theirs) == 1
    np.testing.assert_array_equal(mine.read(0).reward, theirs.read(0).reward)


def test_a_sweep_hands_the_run_on(balance: Path, tmp_path: Path) -> None:
    values = {
        "tasks": ["cartpole-swingup"],
        "seeds": [1],
        "variants": {"tuned": {"preset": "debug", "from_run": str(balance), "from_replay": "none"}},
    }
    sweep = resolved_sweep(make_sweep(values, "test"), is_local=True)
    (planned,) = make_plan(sweep, threads=1).runs
    config = parse_config(Config, "nearfar train", planned.arguments)
    assert (config.from_run, config.from_replay) == (str(balance), "none")
    values["variants"]["tuned"]["from_run"] = str(tmp_path / "absent")  # type: ignore[index]
    with pytest.raises(ValueError, match="variant tuned: there is no run"):
        resolved_sweep(make_sweep(values, "test"), is_local=True)
