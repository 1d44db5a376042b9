"""What `nearfar curves` says about input that is damaged: one line each, and the rest is compared.

    python benchmarks/bad_input.py > benchmarks/results/bad-input.txt

A folder of runs is made in a temporary directory, each damaged in another way; nothing is trained.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

HEADER = "frames,updates,seconds,return_mean,return_std,episodes\n"
ROWS = "".join(f"{at},{at // 8},{at / 100},{at / 100},1.5,10\n" for at in (10_000, 20_000, 30_000))
METRICS = '{"frames": 30000, "time/update_share": 0.9, "time/acting_share": 0.1}\n'
EVALUATIONS = {
    1: HEADER + ROWS,
    2: HEADER + ROWS,
    3: HEADER + ROWS[:-15],  # torn
    4: HEADER + ROWS.replace(",200.0,1.5", ",nan,1.5"),
    5: HEADER + ROWS + "15000,1875,310.0,140.0,1.5,10\n",  # frames go back
    6: "frames,score\n10000,1\n",
    7: "",
}
TABLES = {
    "theirs-walker_walk.csv": (
        "frames,reward,seed\n10000,90,1\n30000,280,1\n10000,nan,2\n10000,80,3\n5000,70,3\n"
    ),
    "steps-walker_walk.csv": "step,reward,seed\n5000,90,1\n",
    "unknown-walker_walk.csv": "time,loss,seed\n5000,90,1\n",
    "torn-walker_walk.csv": "frames,reward,seed\n10000,95,1\n20000,1",
}


def write_run(path: Path, seed: int, evaluations: str) -> None:
    """A run directory as far as curves need it."""
    path.mkdir(parents=True)
    (path / "eval.csv").write_text(evaluations)
    config = {"task": "dmc/walker-walk", "preset": "cpu", "seed": seed, "frames": 30_000}
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    (path / "manifest.json").write_text('{"versions": {"mujoco": "3.17.0"}, "action_repeat": 2}')
    (path / "metrics.jsonl").write_text(METRICS + METRICS[: 30 * (seed == 1)])


def main() -> None:
    """Write the input, compare it, print what is said."""
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        for seed, evaluations in EVALUATIONS.items():
            write_run(top / "runs" / f"seed-{seed}", seed, evaluations)
        write_run(top / "again" / "seed-1", 1, HEADER + ROWS[:-1] + "\n")
        (top / "empty").mkdir()
        for file, text in TABLES.items():
            (top / file).write_text(text)
        for inputs in (["runs", "again", "empty", "absent", *TABLES], ["empty"], ["steps-walker_walk.csv"]):
            command = [sys.executable, "-m", "scripts.cli", "curves", *(str(top / each) for each in inputs)]
            done = subprocess.run(
                [*command, "--out", str(top / "report")], capture_output=True, text=True, check=False
            )
            print(
                f"$ nearfar curves {' '.join(inputs)} --out report", f"exit code {done.returncode}", sep="\n"
            )
            print((done.stdout + done.stderr).replace(f"{top}/", ""), flush=True)


if __name__ == "__main__":
    main()
