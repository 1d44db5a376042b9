"""Random windows and stacks of recorded episodes a second, from disk, while they fit the page cache.

python benchmarks/loading.py [--data STORE] [--out FILE.json]

Without a store, one of noise is made beside the result and deleted afterwards: 200 episodes of 251 frames of
64 px, 0.6 GiB. Each figure is the median of several rounds, by the clock and by processor time: the two
differ where other processes take the processor away.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from envs.episodes import EpisodeStore
from envs.positions import PairSampler, WindowSampler
from envs.recording import Episode, EpisodeInfo
from envs.windows import EpisodeReader
from scripts.machine import hardware, versions

HERE = Path(__file__).parent
EPISODES, STEPS, SIZE = 200, 250, 64
BATCH, WINDOW, STACK, K_MAX = 64, 16, 3, 8
ROUNDS, ROUND_S = 5, 2.0


def main() -> None:
    """Measure one process, then two side by side."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="an episode store of 64 px frames")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "loading.json")
    options = parser.parse_args()
    made = None if options.data else Path(tempfile.mkdtemp(prefix="loading-", dir=options.out.parent))
    try:
        path = options.data or _make_store(made or Path())
        result = _result(path)
    finally:
        if made:
            shutil.rmtree(made)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def _result(path: Path) -> dict[str, Any]:
    for file in path.glob("*.safetensors"):
        file.read_bytes()  # into the page cache
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        alone = pool.apply(measure, (path,))
        side_by_side = pool.map(measure, [path, path], chunksize=1)
    names = [name for name in alone if name.endswith("frames_per_s")]
    return {
        "load_average_before": os.getloadavg()[0],
        "one_process": alone,
        "two_processes": {name: sum(each[name] for each in side_by_side) for name in names},
        "window_frames": WINDOW,
        "batch": BATCH,
        "stack": STACK,
        "hardware": hardware(),
        "versions": versions(),
    }


def measure(path: Path) -> dict[str, float]:
    """Rates of one reader."""
    began = time.perf_counter()
    reader = EpisodeReader(EpisodeStore(path))
    opening_s = time.perf_counter() - began
    rng = np.random.default_rng(os.getpid())
    windows = WindowSampler(reader.lengths, WINDOW)
    pairs = PairSampler(reader.lengths, 1, K_MAX)

    def read_windows() -> int:
        reader.windows(*windows.sample(BATCH, rng), WINDOW)
        return BATCH * WINDOW

    def read_pairs() -> int:
        earlier, later = pairs.sample(BATCH, rng)
        reader.stacks(*earlier, STACK)
        reader.stacks(earlier.episode, later, STACK)
        return 2 * BATCH * STACK

    return {
        "open_ms_per_episode": 1e3 * opening_s / len(reader.lengths),
        **_rates("window", read_windows),
        **_rates("pair", read_pairs),
    }


def _rates(name: str, read: Callable[[], int]) -> dict[str, float]:
    """Frames a second, by the clock and by processor time."""
    by_clock, by_processor = [], []
    for _ in range(ROUNDS):
        frames, clock, processor = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() < clock + ROUND_S:
            frames += read()
        by_clock.append(frames / (time.perf_counter() - clock))
        by_processor.append(frames / (time.process_time() - processor))
    return {
        f"{name}_frames_per_s": round(statistics.median(by_clock)),
        f"{name}_frames_per_processor_s": round(statistics.median(by_processor)),
    }


def _make_store(path: Path) -> Path:
    rng = np.random.default_rng(0)
    store = EpisodeStore(path)
    truncated = np.arange(1, STEPS + 1) == STEPS
    for number in range(EPISODES):
        episode = Episode(
            frame=rng.integers(0, 256, (STEPS + 1, 3, SIZE, SIZE), np.uint8),
            action=np.zeros((STEPS, 6), np.float32),
            reward=np.zeros(STEPS, np.float32),
            terminated=np.zeros(STEPS, np.bool_),
            truncated=truncated,
            physics=np.zeros((STEPS + 1, 18)),
            proprio=np.zeros((STEPS + 1, 24), np.float32),
            info=EpisodeInfo("dmc/walker-walk", "fast", 4, 0, number, number, 4 * STEPS, {}),
        )
        store.commit(episode)
    return path


if __name__ == "__main__":
    main()
