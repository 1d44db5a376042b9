"""Pretraining goes on where it stopped, says what happens, and notices a collapse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agent import checkpoint
from configs.pretrain import PretrainConfig
from tests.points import BFLOAT16, VARIANTS, Points, Shifts, config_of, env_spec
from world_model.pretrain.loop import Progress, pretrain
from world_model.pretrain.method import Method
from world_model.pretrain.parallel import Alone
from world_model.pretrain.registry import make_method
from world_model.pretrain.source import Source
from world_model.pretrain.trainer import Trainer

QUIET = {"every_updates": 2, "checkpoint_every_updates": 3, "tensorboard": False, "progress": False}


class StopAfter:
    def __init__(self, updates: int) -> None:
        self.left = updates

    @property
    def requested(self) -> bool:
        self.left -= 1
        return self.left <= 0


def run(config: PretrainConfig, directory: Path, stop_after: int = 1_000) -> tuple[Trainer, Progress]:
    torch.manual_seed(0)
    method = make_method(config.method, env_spec(), config.obs, config.model.world_model(), config.pairs)
    trainer = Trainer(method, config, Alone())
    progress = pretrain(
        config, trainer, Source(Points(), config), Shifts, Alone(),
        device=torch.device("cpu"), directory=directory, stop=StopAfter(stop_after),
    )  # fmt: skip
    return trainer, progress


def records(directory: Path) -> list[dict[str, Any]]:
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


@pytest.mark.parametrize("name", [*VARIANTS, BFLOAT16])
def test_what_was_stopped_goes_on_to_the_bit(name: str, tmp_path: Path) -> None:
    config = config_of(name, updates=8, logging=QUIET)
    whole, _ = run(config, tmp_path / "whole")
    _, stopped = run(config, tmp_path / "parts", stop_after=5)
    assert stopped.update == 5
    again, progress = run(config, tmp_path / "parts")
    assert progress.update == 8
    for key, value in whole.state_dict()["method"].items():
        assert torch.equal(value, again.state_dict()["method"][key]), key
    assert records(tmp_path / "whole") == records(tmp_path / "parts")
    assert [record["updates"] for record in records(tmp_path / "whole")] == [2, 4, 6, 8]


def test_a_kill_costs_what_came_after_the_last_checkpoint(tmp_path: Path) -> None:
    config = config_of("byol", updates=8, logging=QUIET)
    whole, _ = run(config, tmp_path / "whole")
    run(config, tmp_path / "killed", stop_after=7)
    (tmp_path / "killed/checkpoints/checkpoint-000000007.safetensors").unlink()  # as if it had not come to it
    with (tmp_path / "killed/metrics.jsonl").open("a") as file:
        file.write('{"updates": 7, "sec')
    again, _ = run(config, tmp_path / "killed")
    assert records(tmp_path / "whole") == records(tmp_path / "killed")
    for key, value in whole.state_dict()["method"].items():
        assert torch.equal(value, again.state_dict()["method"][key]), key


def test_the_newest_two_checkpoints_stay(tmp_path: Path) -> None:
    run(config_of("simclr", updates=8, logging=QUIET), tmp_path)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["checkpoint-000000006.safetensors", "checkpoint-000000008.safetensors"]
    assert checkpoint.latest(tmp_path / "checkpoints") == tmp_path / "checkpoints" / names[1]


def test_metrics_say_what_is_compared(tmp_path: Path) -> None:
    _, progress = run(config_of("moco", updates=2, logging=QUIET), tmp_path)
    assert {
        "loss/contrast",
        "train/gradient_norm",
        "train/retrieval",
        "train/rank_me",
        "train/alignment",
    } < set(progress.metrics)
    _, progress = run(config_of("clip", updates=2, logging=QUIET), tmp_path / "clip")
    assert {"train/retrieval_state_of_pixels", "train/retrieval_pixels_of_state", "train/temperature"} < set(
        progress.metrics
    )


def test_a_collapse_is_reported_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    config = config_of("simclr", updates=6, logging=QUIET)
    method = make_method(config.method, env_spec(), config.obs, config.model.world_model(), config.pairs)
    trainer = Trainer(method, config, Alone())
    honest = trainer.rank
    ranks = iter([20.0, 15.0, 9.9, 3.0])
    trainer.rank = lambda samples: honest(samples) * 0 + next(ranks)  # type: ignore[method-assign]
    pretrain(
        config, trainer, Source(Points(), config), Shifts, Alone(),
        device=torch.device("cpu"), directory=tmp_path, stop=StopAfter(100),
    )  # fmt: skip
    said = capsys.readouterr().err
    assert said.count("collapse") == 1
    assert "was 20.0 at the start, and is 9.9 after 4 updates" in said


def test_a_method_learns_what_it_compares(tmp_path: Path) -> None:
    config = config_of("simclr", updates=60, logging=QUIET | {"every_updates": 60})
    trainer, after = run(config, tmp_path)
    torch.manual_seed(1)
    untrained = make_method(config.method, env_spec(), config.obs, config.model.world_model(), config.pairs)
    samples = Source(Points(), config).draw(1_000)

    @torch.no_grad()
    def retrieval(method: Method) -> float:
        return float(method.metrics(method.embed(samples, Shifts(7)))["retrieval"])

    assert retrieval(trainer.method) > retrieval(untrained) + 0.2
    assert after.seconds > 0


def test_lars_learns_by_its_own_step_size(tmp_path: Path) -> None:
    quiet = QUIET | {"every_updates": 1, "checkpoint_every_updates": 100}
    run(config_of("lars", updates=40, batch={"size": 192}, logging=quiet), tmp_path)
    losses = [record["loss/contrast"] for record in records(tmp_path)]
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) - 0.5


def test_lower_precision_learns_about_the_same(tmp_path: Path) -> None:
    quiet = QUIET | {"every_updates": 1, "checkpoint_every_updates": 100}
    for name in ("simclr", BFLOAT16):
        run(config_of(name, updates=3, logging=quiet), tmp_path / name)
    whole, reduced = (
        [record["loss/contrast"] for record in records(tmp_path / name)] for name in ("simclr", BFLOAT16)
    )
    assert reduced != whole
    assert reduced == pytest.approx(whole, rel=0.05)


@pytest.mark.parametrize("name", ["byol", "moco v3"])
def test_latents_spread_out(name: str, tmp_path: Path) -> None:
    config = config_of(name, updates=80, batch={"size": 64}, logging=QUIET | {"every_updates": 80})
    _, progress = run(config, tmp_path)
    assert progress.metrics["train/rank_me"] > progress.first_rank
