"""What a run consists of, as its configuration asks for it."""

from __future__ import annotations

import torch

from agent.replay import Replay
from configs.schema import Config, TrainingOptions
from envs.spec import Pool


def make_replay(config: Config, pool: Pool, device: torch.device) -> Replay:
    """The replay that a configuration asks for."""
    options, model = config.replay, config.world_model
    return Replay(
        pool.env_spec,
        capacity=options.capacity,
        lanes=pool.count,
        horizon=model.horizon,
        pair_share=options.pair_share,
        min_gap=model.near_window + model.horizon,
        device=device if options.on_device else torch.device("cpu"),
    )


def exploration_std(options: TrainingOptions, frames: int) -> float:
    """Deviation of the noise on the behaviour's actions after so many frames."""
    first, final = options.exploration_std, options.exploration_final_std
    elapsed = (frames - options.random_frames) / max(1, options.exploration_frames)
    return first + (final - first) * min(1.0, elapsed)
