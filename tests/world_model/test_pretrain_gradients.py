"""The gradient of a batch, whole, in chunks, and shared by two processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor

from tests.points import VARIANTS, Shifts, config_of, drawn, method_of
from world_model.pretrain.gradients import accumulate
from world_model.pretrain.method import Method
from world_model.pretrain.parallel import Alone, Group, Ranks
from world_model.pretrain.trainer import Trainer

UPDATES = 20


def gradients(method: Method) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}


def largest_difference(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    assert first.keys() == second.keys()
    return max(float((first[name].double() - second[name].double()).abs().max()) for name in first)


@pytest.mark.parametrize("name", VARIANTS)
def test_chunks_give_the_gradient_of_the_whole_batch(name: str) -> None:
    config = config_of(name)
    method, samples = method_of(config), drawn(config, 0)
    losses, rows = accumulate(method, samples, Shifts(), Alone())
    whole = gradients(method)
    learning = [grad for name, grad in whole.items() if "key_" not in name and "encoder" in name]
    assert all(grad.abs().max() > 1e-8 for grad in learning) and len(learning) >= 10
    for chunk in (1, 5, 12, 100):
        again, same = accumulate(method, samples, Shifts(), Alone(), chunk=chunk)
        assert largest_difference(whole, gradients(method)) < 1e-10
        assert largest_difference(losses, again) < 1e-12
        assert largest_difference(rows, same) < 1e-12


def learn(name: str, group: Group) -> dict[str, dict[str, Tensor]]:
    """The first gradient of a variant, and what it has learnt after some updates."""
    config = config_of(name, updates=2 * UPDATES)
    method = method_of(config)
    first = drawn(config, 0, group.rank, group.size)
    losses, _ = accumulate(method, first, Shifts(), group)
    found = {"losses": losses, "gradients": gradients(method)}
    trainer = Trainer(method, config, group)
    for update in range(UPDATES):
        trainer.step(drawn(config, update, group.rank, group.size), Shifts(update))
    return found | {"learnt": {k: v.clone() for k, v in method.state_dict().items()}}


def run_rank(rank: int, folder: Path, size: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=size)
    torch.save({name: learn(name, Ranks()) for name in VARIANTS}, folder / f"rank-{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, dict[str, Tensor]]]]:
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(run_rank, (folder, 2), nprocs=2)
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("name", VARIANTS)
def test_two_processes_learn_what_one_does(
    name: str, ranks: list[dict[str, dict[str, dict[str, Tensor]]]]
) -> None:
    first, second = ranks[0][name], ranks[1][name]
    alone = learn(name, Alone())
    assert largest_difference(alone["losses"], first["losses"]) < 1e-10
    assert largest_difference(alone["gradients"], first["gradients"]) < 1e-10
    assert all(torch.equal(value, second["learnt"][key]) for key, value in first["learnt"].items())
    assert largest_difference(alone["learnt"], first["learnt"]) < 1e-6
