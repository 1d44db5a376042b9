"""Everything that needs a GPU, in order of worth, in the minutes there are.

    python benchmarks/gpu.py --minutes 10 [--out benchmarks/results/gpu] [--only tests,bench,pretrain,train]

1. the GPU tests; 2. `nearfar bench`, captured and eager, with curiosity, too; 3. a short pretraining in
bfloat16 and one in float32; 4. training runs, several at a time, each resumed where an earlier call cut it.
Every result is written as it comes, so that a call that is cut short leaves what it measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from suite import keep

RESERVE_S = 25  # for stopping runs cleanly and copying their results
RUNS = {
    "cartpole-swingup-1": "--task dmc/cartpole-swingup --seed 1",
    "reacher-easy-1": "--task dmc/reacher-easy --seed 1",
    "ball_in_cup-catch-1": "--task dmc/ball_in_cup-catch --seed 1",
    "finger-spin-1": "--task dmc/finger-spin --seed 1",
    "cheetah-run-1": "--task dmc/cheetah-run --seed 1",
    "walker-walk-1": "--task dmc/walker-walk --seed 1",
}
TRAIN_FLAGS = "--preset gpu --logging.no-progress --logging.keep-every-frames 50000"
BENCHES = {
    "bench-gpu": "--preset gpu",
    "bench-gpu-eager": "--preset gpu --training.no-cuda-graph",
    "bench-gpu-curious": "--preset gpu+curious",
    "bench-cpu-preset": "--preset cpu --device cuda",
}

COLLECT_FLAGS = "--task dmc/cartpole-swingup --behaviour random --episodes 20 --envs 4 --no-progress"
PRETRAININGS = {
    "pretrain-bfloat16": "--method simclr --updates 300 --model.encoder.precision bfloat16",
    "pretrain-float32": "--method simclr --updates 300",
}


class Session:
    """One call of this script: its deadline, and where results go."""

    def __init__(self, minutes: float, out: Path, work: Path) -> None:
        """Start the clock."""
        self.deadline = time.monotonic() + 60 * minutes - RESERVE_S
        self.out, self.work = out, work
        out.mkdir(parents=True, exist_ok=True)

    @property
    def left_s(self) -> float:
        """Seconds until everything must have ended."""
        return self.deadline - time.monotonic()

    def call(
        self, name: str, arguments: list[str], limit_s: float
    ) -> subprocess.CompletedProcess[str] | None:
        """Run to the end or the limit; the output goes to `name`.txt, and is echoed in short."""
        limit_s = min(limit_s, self.left_s)
        if limit_s <= 5:
            return None
        start = time.monotonic()
        with (self.out / f"{name}.txt").open("w") as log:
            try:
                done = subprocess.run(
                    [sys.executable, *arguments],
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    timeout=limit_s,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                print(f"{name}: cut after {limit_s:.0f} s", flush=True)
                return None
            log.write(done.stdout)
        print(f"{name}: exit {done.returncode} after {time.monotonic() - start:.0f} s", flush=True)
        return done

    def environment(self) -> None:
        """What this machine is."""
        done = self.call(
            "environment",
            [
                "-c",
                "import torch; print(torch.__version__, torch.version.cuda, torch.cuda.get_device_name())",
            ],
            60,
        )
        print(done.stdout if done else "torch finds no GPU", flush=True)

    def tests(self) -> None:
        """The tests that are marked gpu."""
        done = self.call("tests", ["-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider"], 240)
        print("\n".join(done.stdout.splitlines()[-15:]) if done else "no result", flush=True)

    def benches(self) -> None:
        """How fast each part is."""
        for name, flags in BENCHES.items():
            done = self.call(name, ["-m", "scripts.cli", "bench", "--json", *flags.split()], 120)
            if done and done.returncode == 0:
                (self.out / f"{name}.json").write_text(json.dumps(json.loads(done.stdout), indent=2) + "\n")
                print(done.stdout, flush=True)

    def pretrain(self) -> None:
        """An encoder from random episodes: its losses, its rank, and how long it took."""
        data = self.work / "episodes"
        self.call(
            "collect", ["-m", "scripts.cli", "collect", *COLLECT_FLAGS.split(), "--out", str(data)], 120
        )
        for name, flags in PRETRAININGS.items():
            target = self.work / name
            places = ["--data", str(data), "--out", str(target), "--device", "cuda"]
            self.call(name, ["-m", "scripts.cli", "pretrain", *flags.split(), *places], 120)
            if (target / "metrics.jsonl").exists():
                (self.out / f"{name}.jsonl").write_bytes((target / "metrics.jsonl").read_bytes())

    def train(self, jobs: int, names: list[str]) -> None:
        """Training runs with the gpu preset, `jobs` at a time, until the deadline."""
        waiting = {name: RUNS[name] for name in names}
        running: dict[str, subprocess.Popen[bytes]] = {}
        try:
            while (waiting or running) and self.left_s > 0:
                while waiting and len(running) < jobs:
                    name = next(iter(waiting))
                    running[name] = self._start(name, waiting.pop(name))
                time.sleep(1)
                for name in [name for name, process in running.items() if process.poll() is not None]:
                    self._finish(name, running.pop(name))
        finally:
            for process in running.values():
                process.terminate()
            for name, process in running.items():
                self._finish(name, process)

    def _start(self, name: str, flags: str) -> subprocess.Popen[bytes]:
        run_dir = self.work / name
        run_dir.parent.mkdir(parents=True, exist_ok=True)
        command = ["train", *TRAIN_FLAGS.split(), *flags.split(), "--out", str(run_dir)]
        with (self.out / f"{name}.log").open("a") as log:
            return subprocess.Popen([sys.executable, "-m", "scripts.cli", *command], stdout=log, stderr=log)

    def _finish(self, name: str, process: subprocess.Popen[bytes]) -> None:
        try:
            code: int | str = process.wait(timeout=RESERVE_S - 5)
        except subprocess.TimeoutExpired:
            process.kill()
            code = "killed"
        keep(self.work / name, self.out / name)
        rows = self.out / name / "eval.csv"
        last = rows.read_text().splitlines()[-1] if rows.exists() else "no evaluation"
        print(f"{name}: exit {code}; last evaluation {last}", flush=True)


def main() -> None:
    """Do what fits."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gpu"))
    parser.add_argument("--work", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--jobs", type=int, default=2, help="training runs at the same time")
    parser.add_argument("--only", default="tests,bench,pretrain,train")
    parser.add_argument("--runs", default=",".join(RUNS), help="which training runs, in this order")
    options = parser.parse_args()
    os.environ.setdefault("MUJOCO_GL", "egl")
    session = Session(options.minutes, options.out, options.work)
    session.environment()
    stages = options.only.split(",")
    if "tests" in stages:
        session.tests()
    if "bench" in stages:
        session.benches()
    if "pretrain" in stages:
        session.pretrain()
    if "train" in stages:
        session.train(options.jobs, options.runs.split(","))


if __name__ == "__main__":
    main()
