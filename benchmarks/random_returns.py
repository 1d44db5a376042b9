"""What uniformly random actions return: the floor that learning is compared with.

    python benchmarks/random_returns.py [TASK ...] [--episodes 100] [--out FILE.csv]

An action is drawn for every decision, at the task's customary action repeat.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from pathlib import Path

import numpy as np

from envs import make_env
from envs.rendering import select_backend

TASKS = (
    "dmc/cartpole-swingup",
    "dmc/reacher-easy",
    "dmc/ball_in_cup-catch",
    "dmc/finger-spin",
    "gym/Hopper-v5",
)
COLUMNS = ("task", "episodes", "return_mean", "return_std", "frames_mean")


def random_episodes(task: str, episodes: int) -> list[tuple[float, int]]:
    """Return and frames of each episode; the seeds are 0, 1, 2, ..."""
    env = make_env(task)
    rng, found = np.random.default_rng(0), []
    for seed in range(episodes):
        env.reset(seed=seed)
        total, frames, is_over = 0.0, 0, False
        while not is_over:
            action = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
            _, reward, terminated, truncated, info = env.step(action)
            total, frames, is_over = total + float(reward), frames + info["frames"], terminated or truncated
        found.append((total, frames))
    env.close()
    return found


def main() -> None:
    """Write the CSV."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tasks", nargs="*", default=TASKS)
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/random.csv"))
    options = parser.parse_args()
    select_backend()
    rows: dict[str, list[str]] = {}
    if options.out.exists():  # results for other tasks stay
        with options.out.open(newline="") as file:
            rows = {row[0]: row for row in csv.reader(file) if row[0] != COLUMNS[0]}
    for task in options.tasks:
        returns, frames = zip(*random_episodes(task, options.episodes), strict=True)
        mean, deviation = statistics.fmean(returns), statistics.pstdev(returns)
        numbers = (f"{mean:.1f}", f"{deviation:.1f}", f"{statistics.fmean(frames):.0f}")
        rows[task] = [task, str(len(returns)), *numbers]
        print(*rows[task], flush=True)
        with options.out.open("w", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *rows.values()])


if __name__ == "__main__":
    main()
