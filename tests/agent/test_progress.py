from __future__ import annotations

import numpy as np
import pytest

from agent.progress import Progress


@pytest.mark.parametrize("seed", range(5))
def test_what_was_left_out_is_made_up_for_and_frames_never_go_back(seed: int) -> None:
    """Two environments whose episodes end or fail by chance, beside a count of what is kept."""
    rng = np.random.default_rng(seed)
    progress = Progress()
    kept = np.zeros(2, int)  # frames, decisions
    under_way = np.zeros((2, 2), int)
    settled = 0
    for _ in range(300):
        before = progress.frames
        for lane in range(2):
            frames = int(rng.integers(1, 5))
            progress.count(frames, is_random=False)
            under_way[lane] += frames, 1
            if (event := rng.random()) < 0.1:
                kept += under_way[lane]
                under_way[lane] = 0
            elif event < 0.15:
                progress.leave_out(*under_way[lane].tolist())
                under_way[lane] = 0
        assert progress.frames >= before
        frames, steps = kept + under_way.sum(axis=0)
        assert progress.frames - progress.owed_frames == frames
        assert progress.steps - progress.owed_steps == steps
        settled += progress.is_settled
    assert 0 < settled < 300


def test_random_decisions_are_counted_once() -> None:
    progress = Progress()
    for _ in range(4):
        progress.count(2, is_random=True)
    progress.leave_out(6, 3)
    for is_random in (True, False, False, False):
        progress.count(2, is_random=is_random)
    assert (progress.frames, progress.steps, progress.random_steps) == (10, 5, 4)
    assert progress.is_settled
