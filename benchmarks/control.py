"""Planners against the policy: the same checkpoints evaluated with each, and what each costs a decision.

    python benchmarks/control.py RUN... [--frames 30000 60000 100000] [--controls mppi policy]
        [--episodes 10] [--out FILE.csv]

Needs runs with kept checkpoints (`--logging.keep-every-frames 10000`, as the suite `cartpole` has).
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from pathlib import Path

from agent.checkpoint import numbered
from agent.controller import Controller
from agent.loading import LoadedAgent, load_agent
from agent.planners.registry import PLANNERS
from agent.rollout import evaluate
from agent.seeding import Streams
from envs.rendering import select_backend
from envs.spec import Pool
from scripts.wiring import make_evaluation_pool

COLUMNS = ("run", "frames", "control", "return_mean", "return_std", "episodes", "ms_a_decision")


def decision_ms(loaded: LoadedAgent, pool: Pool, control: str, decisions: int = 50) -> float:
    """Median milliseconds to encode, plan and act for one environment."""
    import torch

    agent = loaded.agent
    controller = Controller(agent, 1, torch.Generator(agent.device).manual_seed(0), control=control)
    obs = {0: pool.reset({0: 1})[0][0]}
    times = []
    for _ in range(decisions):
        start = time.perf_counter()
        controller.act(obs)
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def main() -> None:
    """Evaluate and write a CSV."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--frames", nargs="+", type=int, default=[30_000, 60_000, 100_000])
    parser.add_argument("--controls", nargs="+", choices=PLANNERS, default=["mppi", "policy"])
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/control.csv"))
    options = parser.parse_args()
    select_backend()
    seeds = [Streams(0).episode_seed("eval", index) for index in range(options.episodes)]
    for run in options.runs:  # before results that exist are written over
        for frames in options.frames:
            if not (path := numbered(run / "checkpoints", frames)).exists():
                parser.error(f"there is no {path}: train with --logging.keep-every-frames 10000")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for run in options.runs:
            for frames in options.frames:
                loaded = load_agent(numbered(run / "checkpoints", frames))
                with make_evaluation_pool(loaded.agent.config, options.episodes) as pool:
                    for control in options.controls:
                        results = evaluate(loaded.agent, pool, seeds, control=control)
                        returns = [result.episode_return for result in results]
                        mean, std = statistics.fmean(returns), statistics.pstdev(returns)
                        cost = decision_ms(loaded, pool, control)
                        row = (
                            str(run),
                            frames,
                            control,
                            f"{mean:.1f}",
                            f"{std:.1f}",
                            len(returns),
                            f"{cost:.1f}",
                        )
                        writer.writerow(row)
                        file.flush()
                        print(*row, flush=True)


if __name__ == "__main__":
    main()
