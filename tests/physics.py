"""Episodes made of physics states alone."""

from __future__ import annotations

import numpy as np

from envs.recording import Episode, EpisodeInfo


def make_episode(physics: np.ndarray, *, task: str = "dmc/cartpole-swingup", frames: int = 0) -> Episode:
    steps = len(physics) - 1
    info = EpisodeInfo(task, "fast", 8, lane=0, episode=0, seed=0, frames=frames or 8 * steps, versions={})
    return Episode(
        frame=np.zeros((steps + 1, 3, 4, 4), np.uint8),
        action=np.zeros((steps, 1), np.float32),
        reward=np.zeros(steps, np.float32),
        terminated=np.zeros(steps, bool),
        truncated=np.arange(steps) == steps - 1,
        physics=np.asarray(physics, np.float64),
        proprio=np.zeros((steps + 1, 0), np.float32),
        info=info,
    )
