"""A sweep that is killed half-way and started again, then compared: what is kept of it, and its page.

    python benchmarks/killed_sweep.py [--sweep smoke] [--work runs/killed] [--jobs 2]

The first process and all that it has started get SIGKILL as soon as half of the runs have finished. Ledger
and printed tables go to `benchmarks/results/SWEEP/`, the pictures and the page stay under `--work`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from agent.sweeps.ledger import Ledger

RESULTS = Path(__file__).parent / "results"
PATIENCE_S = 3600.0


def progress(sweep: Path) -> tuple[int, int]:
    """Runs of a sweep that have finished, and all that its ledger knows."""
    records = Ledger.read(sweep).records.values()
    return sum(record.state == "finished" for record in records), len(records)


def kill_half_way(command: list[str], sweep: Path) -> None:
    """Start the sweep, and kill everything that it has started once half of its runs are done."""
    process = subprocess.Popen(command, start_new_session=True)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        done, planned = progress(sweep)
        if planned and done >= planned / 2:
            break
        if process.poll() is not None:
            raise SystemExit(f"the sweep ended by itself, with exit code {process.returncode}")
        if time.monotonic() > deadline:
            raise SystemExit(f"half of the sweep took more than {PATIENCE_S:.0f} s")
        time.sleep(0.2)
    for group in process_groups(process.pid):
        os.killpg(group, signal.SIGKILL)
    process.wait()
    print("killed with {} of {} runs finished".format(*progress(sweep)), flush=True)


def process_groups(session: int) -> set[int]:
    """Groups of all processes below one, itself included: runs have groups of their own."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,pgid"], capture_output=True, text=True, check=True)
    rows = [tuple(map(int, line.split())) for line in listed.stdout.splitlines()[1:]]
    found, grown = {session}, True
    while grown:
        below = {pid for pid, parent, _ in rows if parent in found} - found
        found |= below
        grown = bool(below)
    return {group for pid, _, group in rows if pid in found}


def main() -> None:
    """Kill, go on, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sweep", default="smoke")
    parser.add_argument("--work", type=Path, default=Path("runs/killed"))
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    sweep, report = options.work / options.sweep, options.work / "report"
    kept = RESULTS / options.sweep
    kept.mkdir(parents=True, exist_ok=True)
    nearfar = [sys.executable, "-m", "scripts.cli"]
    command = [*nearfar, "sweep", options.sweep, "--out", str(sweep), "--jobs", str(options.jobs)]
    plan = subprocess.run([*command, "--dry-run"], capture_output=True, text=True, check=True).stdout
    (kept / "plan.txt").write_text(plan)
    kill_half_way(command, sweep)
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    (kept / "second.txt").write_text(again.stdout)
    for folder in sorted(path.parent for path in sweep.rglob("eval.csv")):
        subprocess.run([*nearfar, "inspect", str(folder)], check=True, stdout=subprocess.DEVNULL)
    compared = subprocess.run(
        [*nearfar, "curves", str(sweep), "--out", str(report)], capture_output=True, text=True, check=True
    )
    (kept / "curves.txt").write_text(compared.stdout + compared.stderr)
    for name in ("ledger.jsonl", "sweep.yaml"):
        shutil.copyfile(sweep / name, kept / name)
    shutil.copyfile(report / "summary.json", kept / "summary.json")
    opened = (kept / "ledger.jsonl").read_text().count('"opened"')
    done, planned = progress(sweep)
    print(f"{done} of {planned} finished after {opened} starts; page: {report / 'report.html'}")


if __name__ == "__main__":
    main()
