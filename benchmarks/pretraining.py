"""Encoders from recorded episodes: every method on the same data with the same budget, and what each knows.

    python benchmarks/pretraining.py --lived RUN [--updates 400] [--seed 1] [--threads 0] [--work DIR]

Two tasks, 100 episodes each, half of the random ones correlated in time. Cartpole: 50 at random, and the 50
that an agent lived while it learnt, the first 50k frames of the run `--lived`, which are of mixed quality.
Reacher: 100 at random, which gets everywhere. Methods that see pairs learn from 256 a step, those that see
windows from 64, which costs about as much. Then one probe for each task, on 40 episodes of the same kinds
that no encoder has seen, of all encoders beside a random one, pixels and a supervised one. What is done
already is not done again. Results go to `benchmarks/results/pretraining/`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from figures import header, row

RESULTS = Path(__file__).parent / "results" / "pretraining"
TASKS = {"cartpole": "dmc/cartpole-swingup", "reacher": "dmc/reacher-easy"}
EPISODES, UNSEEN = 100, 40
RANDOM = "random=1,smooth-random=1"
PAIRS, WINDOWS = "--batch.size 256", "--batch.size 64"
METHODS = {
    "simclr": f"--method simclr {PAIRS}",
    "moco": f"--method moco {PAIRS}",
    "byol": f"--method byol {PAIRS}",
    "simclr-time": f"--method simclr --positives.by both {PAIRS}",
    "moco-time": f"--method moco --positives.by both {PAIRS}",
    "byol-time": f"--method byol --positives.by both {PAIRS}",
    "temporal": f"--method temporal {WINDOWS}",
    "predictive": f"--method predictive {WINDOWS}",
    "reconstruction": f"--method reconstruction {WINDOWS}",
    "labels": f"--method supervised {WINDOWS}",
}
ASKED = ("r2_position", "r2_velocity", "knn_error", "retrieval", "rank_me")


def nearfar(*arguments: str | Path) -> str:
    """Run a command; its output, which has to be good."""
    command = [sys.executable, "-m", "scripts.cli", *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def recorded(
    task: str, out: Path, *, episodes: int, seed: int, mixture: str, more: tuple[str, ...] = ()
) -> Path:
    """Episodes of a task, recorded where they are missing."""
    behaviour = ["--behaviour", mixture, "--episodes", str(episodes), "--seed", str(seed), *more]
    nearfar("collect", "--task", TASKS[task], *behaviour, "--no-progress", "--out", out)
    return out


def data_of(task: str, work: Path, lived: Path, seed: int) -> list[Path]:
    """What encoders learn from."""
    out = work / "data" / task / f"seed-{seed}"
    count = EPISODES // 2 if task == "cartpole" else EPISODES
    return [
        recorded(task, out, episodes=count, seed=seed, mixture=RANDOM),
        *([lived] if count < EPISODES else []),
    ]


def unseen_data_of(task: str, work: Path, lived: Path, seed: int) -> Path:
    """What they are asked about: other episodes of the same kinds."""
    out, seed = work / "unseen" / task / f"seed-{seed}", seed + 1000
    if task == "reacher":
        return recorded(task, out, episodes=UNSEEN, seed=seed, mixture=RANDOM)
    policy = ("--from", str(lived), "--noise", "0.1")
    return recorded(task, out, episodes=UNSEEN, seed=seed, mixture=f"{RANDOM},policy=2", more=policy)


def pretrain(task: str, method: str, data: list[Path], out: Path, options: argparse.Namespace) -> None:
    """Learn an encoder, or go on with it."""
    if (out / "encoder.json").exists():
        return
    flags = ["--updates", options.updates, "--seed", options.seed, "--threads", options.threads]
    where = [part for path in data for part in ("--data", path)]
    quiet = ["--device", "cpu", "--logging.no-progress", "--logging.checkpoint-every-updates", "100"]
    nearfar("pretrain", *METHODS[method].split(), *where, *map(str, flags), *quiet, "--out", out)
    print(f"{task} {method}: {last_of(out)['seconds']:.0f} s", flush=True)


def last_of(out: Path) -> dict[str, Any]:
    """The newest metrics of a pretraining."""
    return dict(json.loads((out / "metrics.jsonl").read_text().splitlines()[-1]))


def probe(data: Path, encoders: dict[str, Path], target: Path) -> None:
    """Ask all encoders of a task what they know, and keep the answer."""
    named = [part for name, path in encoders.items() for part in ("--encoder", f"{name}={path}")]
    found = json.loads(nearfar("probe", *named, "--data", data, "--device", "cpu", "--json"))
    for name, path in encoders.items():
        found["encoders"][name]["seconds"] = last_of(path.parent)["seconds"]
    (target / "probe.json").write_text(f"{json.dumps(found, indent=1)}\n")


def table(task: str, seed: int) -> list[str]:
    """What each encoder knows, in Markdown."""
    found = json.loads((RESULTS / task / f"seed-{seed}" / "probe.json").read_text())["encoders"]
    lines = list(header("encoder", *ASKED, "seconds"))
    for name, values in found.items():
        cells = ["-" if values.get(asked) is None else f"{values[asked]:.2f}" for asked in ASKED]
        lines.append(row(name, *cells, f"{values['seconds']:.0f}" if "seconds" in values else "-"))
    return lines


def main() -> None:
    """Record, pretrain, probe."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lived", type=Path, required=True, help="run directory of cartpole-swingup")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--updates", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("runs/benchmarks/pretraining"))
    options = parser.parse_args()
    for task in options.tasks:
        data = data_of(task, options.work, options.lived, options.seed)
        kept = RESULTS / task / f"seed-{options.seed}"
        kept.mkdir(parents=True, exist_ok=True)
        encoders = {}
        for method in options.methods:
            out = options.work / task / method / f"seed-{options.seed}"
            pretrain(task, method, data, out, options)
            encoders[method] = out / "encoder.safetensors"
            shutil.copy(out / "metrics.jsonl", kept / f"{method}.jsonl")
            shutil.copy(out / "encoder.json", kept / f"{method}.json")
        unseen = unseen_data_of(task, options.work, options.lived, options.seed)
        shutil.copy(unseen / "collect.json", kept / "unseen.json")
        probe(unseen, encoders, kept)
        print(task, *table(task, options.seed), sep="\n", flush=True)


if __name__ == "__main__":
    main()
