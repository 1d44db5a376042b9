"""Memory and time of NT-Xent against the number of pairs, whole and in tiles, as a table and a picture.

    python benchmarks/tiled_loss.py [--largest 65536] [--tile 256] [--plain 8192] [--threads 0]

Each case is forward and backward in a process of its own; memory is the peak above what was there with the
inputs. Results go to `benchmarks/results/tiled_loss.json`, the picture to `docs/figures/tiled_loss.png`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DIM, SMALLEST = 128, 1024
PAGE = 4096


def measure(pairs: int, tile: int, threads: int) -> dict[str, Any]:
    """One case, in this process; a tile of 0 is the whole at once."""
    import torch

    from world_model.losses import nt_xent

    if threads:
        torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    views = [torch.randn(pairs, DIM, generator=generator, requires_grad=True) for _ in range(2)]
    nt_xent(views[0][:64], views[1][:64], tile=32).sum().backward()  # what is loaded at the first call
    for view in views:
        view.grad = None
    before = int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here on
    start = time.perf_counter()
    loss = nt_xent(*views, tile=tile or None).mean()
    loss.backward()
    seconds = time.perf_counter() - start
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(status["VmHWM"].split()[0]) * 1024
    return {
        "pairs": pairs,
        "tile": tile,
        "loss": loss.item(),
        "peak_mib": (peak - before) / 2**20,
        "inputs_mib": 2 * pairs * DIM * 4 / 2**20,
        "seconds": seconds,
        "threads": torch.get_num_threads(),
    }


def draw(cases: list[dict[str, Any]], path: Path) -> None:
    """Peak memory and time over pairs, both axes logarithmic."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for name, is_tiled, colour in (("whole", False, "#d55e00"), ("in tiles", True, "#0072b2")):
        chosen = [case for case in cases if bool(case["tile"]) == is_tiled]
        pairs = [case["pairs"] for case in chosen]
        for axis, quantity in zip(axes, ("peak_mib", "seconds"), strict=True):
            axis.loglog(pairs, [case[quantity] for case in chosen], "o-", color=colour, label=name)
    axes[0].axhline(2048, color="grey", linestyle="--", linewidth=1)
    axes[0].set_ylabel("peak above inputs, MiB")
    axes[1].set_ylabel("forward and backward, s")
    for axis in axes:
        axis.set_xlabel(f"pairs of views, {DIM} entries each")
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    """Measure all cases; what was measured is written as it comes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--largest", type=int, default=65_536)
    parser.add_argument("--plain", type=int, default=8_192, help="most pairs that are scored at once")
    parser.add_argument("--tile", type=int, default=256)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--case", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        pairs, tile = options.case
        print(json.dumps(measure(pairs, tile, options.threads)))
        return
    from scripts.machine import hardware, versions

    result = ROOT / "benchmarks" / "results" / "tiled_loss.json"
    cases: list[dict[str, Any]] = []
    pairs = SMALLEST
    while pairs <= options.largest:
        for tile in (0, options.tile) if pairs <= options.plain else (options.tile,):
            arguments = ["--case", str(pairs), str(tile), "--threads", str(options.threads)]
            done = subprocess.run(
                [sys.executable, __file__, *arguments], capture_output=True, text=True, check=True, cwd=ROOT
            )
            cases.append(json.loads(done.stdout))
            print(cases[-1], flush=True)
            content = {"versions": versions(), "hardware": hardware(), "cases": cases}
            result.write_text(f"{json.dumps(content, indent=1)}\n")
        pairs *= 2
    draw(cases, ROOT / "docs" / "figures" / "tiled_loss.png")


if __name__ == "__main__":
    main()
