"""One gradient step of pretraining: how long it is, and what is told of it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from configs.pretrain import PretrainConfig
from tests.points import Shifts, config_of, drawn
from world_model.pretrain.method import Method
from world_model.pretrain.parallel import Alone
from world_model.pretrain.samples import Rows, Samples, Views
from world_model.pretrain.trainer import Trainer

UPDATES = 10
SLOPE, SLOPE_OF_GAIN = torch.tensor([[3.0, 0.0], [0.0, 0.0]]), torch.tensor([0.0, 4.0])
NORM = 5.0  # of both together


class Straight(Method):
    """A loss whose gradient is always the same."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, 2))
        self.gain = nn.Parameter(torch.zeros(2))
        self.momenta: list[float] = []

    def embed(self, samples: Samples, views: Views) -> Rows:
        return {
            "level": ((SLOPE * self.weight).sum() + (SLOPE_OF_GAIN * self.gain).sum()).expand(len(samples))
        }

    def losses(self, rows: Rows) -> dict[str, Tensor]:
        return {"height": rows["level"].mean()}

    def after_step(self, rows: Rows, momentum: float) -> None:
        self.momenta.append(momentum)


def trainer_of(**options: Any) -> tuple[Trainer, Straight, PretrainConfig]:
    config = config_of("byol", updates=UPDATES, **options)
    method = Straight()
    return Trainer(method, config, Alone()), method, config


def rates(trainer: Trainer) -> list[float]:
    """Of weights, and of biases and gains."""
    return [group["lr"] for group in trainer.state_dict()["optimizer"]["param_groups"]]


@pytest.mark.parametrize("optimizer", ["adamw", "lars"])
def test_the_step_size_rises_along_a_line_and_falls_along_a_cosine(optimizer: str) -> None:
    options = {"name": optimizer, "learning_rate": 0.02, "warmup": 0.3}
    trainer, _, config = trainer_of(optimizer=options)
    for update in range(UPDATES):
        trainer.step(drawn(config, update), Shifts())
        middle = (update + 0.5) / UPDATES
        share = middle / 0.3 if update < 3 else (1 + math.cos(math.pi * (middle - 0.3) / 0.7)) / 2
        assert rates(trainer) == pytest.approx([0.02 * share] * 2)


@pytest.mark.parametrize(
    ("name", "optimizer", "size", "expected"),
    [
        ("simclr", {}, 256, 1e-3),
        ("temporal", {}, 256, 3e-4),
        ("simclr", {"name": "lars"}, 256, 0.3),
        ("temporal", {"name": "lars"}, 128, 0.15),
        ("byol", {"name": "lars"}, 4096, 4.8),
        ("byol", {"name": "lars", "learning_rate": 0.7}, 4096, 0.7),
    ],
)
def test_full_step_sizes(name: str, optimizer: dict[str, Any], size: int, expected: float) -> None:
    options = {"schedule": "constant", "warmup": 0.0} | optimizer
    assert config_of(name, optimizer=options, batch={"size": size}).learning_rate == pytest.approx(expected)
    trainer, _, config = trainer_of(optimizer={"learning_rate": 0.5, "schedule": "constant", "warmup": 0.0})
    trainer.step(drawn(config, 0), Shifts())
    assert rates(trainer) == [0.5, 0.5]


@pytest.mark.parametrize(("most", "left"), [(2.0, 2.0), (5.5, NORM)])
def test_gradients_are_clipped_together(most: float, left: float) -> None:
    trainer, method, config = trainer_of(optimizer={"gradient_norm": most})
    values, _ = trainer.step(drawn(config, 0), Shifts())
    assert float(values["train/gradient_norm"]) == pytest.approx(NORM), "as it was before"
    for parameter, slope in ((method.weight, SLOPE), (method.gain, SLOPE_OF_GAIN)):
        torch.testing.assert_close(parameter.grad, slope * left / NORM)


def test_what_is_clipped_is_what_is_learnt_from() -> None:
    """Lars moves gains by plain momentum: the step is as long as the gradient that it sees."""
    options = {
        "name": "lars",
        "learning_rate": 0.1,
        "gradient_norm": 2.0,
        "warmup": 0.0,
        "schedule": "constant",
    }
    trainer, method, config = trainer_of(optimizer=options)
    trainer.step(drawn(config, 0), Shifts())
    torch.testing.assert_close(method.gain.detach(), -0.1 * SLOPE_OF_GAIN * 2 / NORM)


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_averages_move_along_the_cosine_of_byol(schedule: str) -> None:
    trainer, method, config = trainer_of(pairs={"key_tau": 0.1, "key_schedule": schedule})
    for update in range(UPDATES):
        trainer.step(drawn(config, update), Shifts())
    cosines = [(1 + math.cos(math.pi * update / UPDATES)) / 2 for update in range(UPDATES)]
    expected = [0.1 * (share if schedule == "cosine" else 1) for share in cosines]
    assert method.momenta == pytest.approx(expected)
    assert method.momenta[0] == 0.1
