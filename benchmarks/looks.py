"""Frames a second in both looks, for every MuJoCo task of Gymnasium or the customary ones of dm_control.

    python benchmarks/looks.py [--tasks gym] [--size 64] [--frames 40] [--out FILE.json]

Each frame is drawn after one step of the physics. Seconds are processor time of all threads, which hardly
depends on other load of the machine.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from envs import make_env
from envs.registry import GYM_TASKS
from envs.rendering import LOOKS, select_backend

WARM_UP = 5
CUSTOMARY = (
    "ball_in_cup-catch",
    "cartpole-swingup",
    "cheetah-run",
    "finger-spin",
    "reacher-easy",
    "walker-walk",
)
TASKS = {"gym": tuple(GYM_TASKS), "dmc": tuple(f"dmc/{name}" for name in CUSTOMARY)}


def frames_per_second(task: str, look: str, size: int, frames: int) -> float:
    """Frames of random actions a second, resets left out."""
    env = make_env(task, look=look, size=size, action_repeat=1, stack=1)
    env.reset(seed=0)
    spent = 0.0
    for number in range(WARM_UP + frames):
        action = env.action_space.sample()
        start = time.process_time()
        *_, terminated, truncated, _ = env.step(action)
        if number >= WARM_UP:
            spent += time.process_time() - start
        if terminated or truncated:
            env.reset()
    env.close()
    return frames / spent


def main() -> None:
    """Measure and write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", choices=TASKS, default="gym")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--out", type=Path, help="unset: benchmarks/results/looks-TASKS.json")
    options = parser.parse_args()
    backend = select_backend()
    result: dict[str, object] = {"renderer": backend.renderer, "size": options.size}
    for task in TASKS[options.tasks]:
        fps = {look: frames_per_second(task, look, options.size, options.frames) for look in LOOKS}
        result[task] = {look: round(value, 1) for look, value in fps.items()}
        print(task, result[task], flush=True)
    out = options.out or Path(f"benchmarks/results/looks-{options.tasks}.json")
    out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
