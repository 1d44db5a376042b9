"""What curiosity adds to a training step: bonus and memory by themselves, and all of it. Alone.

    python benchmarks/curiosity_cost.py [--bonuses NAME ...] [--rounds 15] [--threads 0]

A step is a decision of the behaviour that collects, with its updates, as the preset `cpu` has them (the
environment takes 1% of it and is left out). For each bonus, three take turns: an agent without curiosity, a
curious one, and the curious one without its bonus: nothing is remembered, looked up, or learnt by an
ensemble, and every bonus is zero; head, critics and policy go on learning. Medians in milliseconds, and what
they add, go to `benchmarks/results/curiosity_cost.json`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, get_args
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from agent.curious import CuriousAgent, make_agent
from agent.explorer import Explorer
from agent.run_parts import make_replay
from agent.update import make_update
from configs.curiosity import BonusName
from configs.schema import Config
from envs.spec import Observation, Pool
from scripts.bench import fill, make_collector
from scripts.launch import restart_with_allocator
from scripts.machine import hardware, versions
from scripts.options import parse_config
from scripts.wiring import configure_torch, make_task_pool
from world_model.batch import Batch
from world_model.curiosity import Arrivals, Bonus, MemoryBonus

RESULT = Path(__file__).parent / "results" / "curiosity_cost.json"
FLAGS = ["--task", "dmc/cartpole-swingup_sparse", "--device", "cpu"]
BONUSES = [name for name in get_args(BonusName) if name != "none"]
WARM_UP = 3


@contextmanager
def no_bonus(bonus: type[Bonus]) -> Iterator[None]:
    """Every bonus, of that kind, is zero and costs nothing."""

    def zero(explorer: Explorer, state: Tensor, *_: Any) -> Tensor:
        return torch.zeros(state.shape[:-1])

    stubs = {
        "remember": lambda *_: None,
        "normalised_bonus": lambda explorer, batch, arrivals: torch.zeros_like(batch.reward),
        "expected_bonus": zero,
    }
    with ExitStack() as stack:
        for name, stub in stubs.items():
            stack.enter_context(patch.object(Explorer, name, stub))
        stack.enter_context(patch.object(Arrivals, "of", lambda *_: None))
        stack.enter_context(patch.object(bonus, "loss", lambda *_: None))
        yield


def fill_memory(bonus: Bonus) -> None:
    """Put keys of episodes that are long over into every place, as from the first minute of a run on."""
    if isinstance(bonus, MemoryBonus):
        key = torch.nn.functional.normalize(torch.randn(bonus.memory.key.shape), dim=1)
        bonus.memory.push(key, *torch.full((2, len(key)), 10**9))


class Stepper:
    """Decides and learns, as one training step does."""

    def __init__(self, config: Config, pool: Pool, batch: Batch, obs: dict[int, Observation]) -> None:
        """An agent of that configuration, with weights that were just drawn."""
        torch.manual_seed(0)
        generator = torch.Generator().manual_seed(0)
        self.agent = make_agent(pool.env_spec, config, torch.device("cpu"))
        self.config, self._batch, self._obs = config, batch, obs
        if isinstance(self.agent, CuriousAgent):
            fill_memory(self.agent.explorer.bonus)
        self._update, self._controller = (
            make_update(self.agent, generator),
            make_collector(self.agent, generator),
        )

    def act(self) -> None:
        """Decide once."""
        self._controller.act(self._obs, self.config.training.exploration_std)

    def update(self) -> None:
        """Learn once."""
        self._update(self._batch)


def seconds_of(function: Callable[[], None]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def measure(bonus: str, rounds: int, threads: int, preset: str = "cpu") -> dict[str, float]:
    """Milliseconds of acting, updating and a whole step of each, and shares that are added to a step."""
    flags = [*FLAGS, "--training.threads", str(threads), "--preset"]
    plain = parse_config(Config, "train", [*flags, preset])
    curious = parse_config(Config, "train", [*flags, f"{preset}+curious", "--curiosity.bonus", bonus])
    configure_torch(plain.training)
    with make_task_pool(plain, plain.envs) as pool:
        replay = make_replay(plain, pool, torch.device("cpu"))
        _, obs = fill(pool, replay)
        batch = replay.sample(plain.training.batch_size, np.random.default_rng(0))
        without, with_it = (Stepper(config, pool, batch, obs) for config in (plain, curious))
    assert isinstance(with_it.agent, CuriousAgent)
    kind = type(with_it.agent.explorer.bonus)
    turns: dict[str, tuple[Stepper, Callable[[], AbstractContextManager[None]]]] = {
        "none": (without, nullcontext),
        "curious": (with_it, nullcontext),
        "no_bonus": (with_it, lambda: no_bonus(kind)),
    }
    times: dict[str, list[float]] = {}
    for number in range(WARM_UP + rounds):
        for name, (stepper, context) in turns.items():
            with context():
                for part in ("act", "update"):
                    seconds = seconds_of(getattr(stepper, part))
                    if number >= WARM_UP:
                        times.setdefault(f"{part}_ms/{name}", []).append(1e3 * seconds)
    found = {key: statistics.median(values) for key, values in times.items()}
    for name in turns:
        updates = plain.training.updates_per_step * found[f"update_ms/{name}"]
        found[f"step_ms/{name}"] = found[f"act_ms/{name}"] + updates
    step = {name: found[f"step_ms/{name}"] for name in turns}
    found["bonus_and_memory"] = (step["curious"] - step["no_bonus"]) / step["none"]
    found["all"] = step["curious"] / step["none"] - 1
    return found


def main() -> None:
    """Measure one bonus after another, with the allocator's settings of `nearfar train`."""
    restart_with_allocator()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bonuses", nargs="+", choices=BONUSES, default=BONUSES)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    result: dict[str, Any] = {"versions": versions(), "hardware": hardware(), "rounds": options.rounds}
    for bonus in options.bonuses:
        result[bonus] = measure(bonus, options.rounds, options.threads)
        result["threads"] = torch.get_num_threads()
        RESULT.write_text(f"{json.dumps(result, indent=1)}\n")
        print(bonus, {key: round(value, 3) for key, value in result[bonus].items()}, flush=True)


if __name__ == "__main__":
    main()
