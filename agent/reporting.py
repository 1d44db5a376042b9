"""What a run tells about itself while it goes on: files, TensorBoard, videos."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from agent.atomic import write_atomically
from agent.evaluation.videos import episode_captions, write_gif
from agent.evaluation.visits.state_coverage import stored_coverage
from agent.logger import Logger
from agent.progress import Progress
from agent.rollout import EpisodeResult
from configs.load import dump_yaml
from configs.schema import Config
from envs.episodes import EpisodeStore
from envs.recording import Episode

_log = logging.getLogger(__name__)

VIDEO_FPS = 25.0
_LAYOUT: Mapping[str, Mapping[str, list[Any]]] = {
    "learning": {
        "return": ["Multiline", ["eval/return_mean", "train/episode_return"]],
        "value against return": ["Multiline", ["eval/start_value", "eval/discounted_return"]],
        "error of the value at the start": ["Multiline", ["eval/value_error"]],
        "losses": ["Multiline", ["loss/.*"]],
        "Q of recorded actions and its target": ["Multiline", ["train/q_mean", "train/q_target_mean"]],
        "values beyond the bins": ["Multiline", ["train/values_clamped"]],
        "gradient norms": ["Multiline", ["train/gradient_norm_.*"]],
    },
    "representation": {
        "retrieval by horizon": ["Multiline", ["train/retrieval_.*"]],
        "spread": ["Multiline", ["train/rank_me"]],
        "far negatives of a query's own episode": ["Multiline", ["train/far_negatives"]],
        "reward error at the horizon": ["Multiline", ["train/reward_error_at_horizon", "train/reward_mean"]],
    },
    "exploration": {
        "visited cells": ["Multiline", ["explore/cells"]],
        "entropy of visits": ["Multiline", ["explore/entropy"]],
    },
    "control": {
        "planner and policy": ["Multiline", ["train/plan_policy_gap", "train/plan_preferred"]],
        "policy and recorded actions": ["Multiline", ["train/policy_data_gap"]],
        "time shares": ["Multiline", ["time/.*_share"]],
        "environments built again": ["Multiline", ["train/restarts"]],
    },
}
_OF_CURIOSITY: Mapping[str, list[Any]] = {
    "bonus and its deviation": ["Multiline", ["curiosity/bonus", "curiosity/deviation"]],
    "weight of the bonus": ["Multiline", ["curiosity/weight"]],
    "deviations of values": ["Multiline", ["curiosity/task_deviation", "curiosity/bonus_deviation"]],
}
_OF_MEMORY: Mapping[str, list[Any]] = {
    "cosine of keys with older ones": ["Multiline", ["curiosity/kept"]],
}


def layout(config: Config) -> dict[str, dict[str, list[Any]]]:
    """TensorBoard's charts of a run, by category; each has lines in a run of that configuration."""
    charts = {category: dict(lines) for category, lines in _LAYOUT.items()}
    if config.curiosity.bonus != "none":
        charts["exploration"] |= _OF_CURIOSITY
    if config.curiosity.bonus not in ("none", "disagreement"):
        charts["exploration"] |= _OF_MEMORY
    return charts


class Reporter:
    """Writes everything under its run directory, at the frames where the run's progress stands."""

    def __init__(self, run_dir: Path, config: Config, progress: Progress) -> None:
        """Open the log files; records later than where the run goes on from are dropped.

        What the run visited so far is read from the episodes that it stored.
        """
        self._run_dir, self._config, self._progress = run_dir, config, progress
        self._coverage, problems = stored_coverage(EpisodeStore(run_dir / "episodes"))
        for problem in problems:
            _log.warning("%s", problem)
        self._logger = Logger(
            run_dir,
            tensorboard=config.logging.tensorboard,
            start=progress.frames,
            evaluated_at=progress.evaluated_at,
        )

    def __enter__(self) -> Reporter:
        """The reporter itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the log files."""
        self._logger.close()

    def announce(self, manifest: Mapping[str, Any]) -> None:
        """Write `manifest.json`, and show config, manifest and layout in TensorBoard."""
        text = json.dumps(manifest, indent=2)
        write_atomically(self._run_dir / "manifest.json", text)
        frames = self._progress.frames
        self._logger.layout(layout(self._config))
        self._logger.text("config", f"```yaml\n{dump_yaml(self._config)}\n```", at=frames)
        self._logger.text("manifest", f"```json\n{text}\n```", at=frames)

    def scalars(self, values: Mapping[str, float]) -> None:
        """Write one line of metrics."""
        at = self._progress
        self._logger.scalars(at.frames, values, updates=at.updates, seconds=at.seconds)

    def episode(self, episode: Episode, episode_return: float) -> None:
        """Write the return of a training episode, and how much of the state space all so far have visited."""
        values = {"train/episode_return": episode_return}
        if stage := self._coverage.add(episode):
            values |= {"explore/cells": stage.cells, "explore/entropy": stage.entropy}
        self.scalars(values)

    def evaluation(self, results: Sequence[EpisodeResult], discount: float) -> None:
        """Write returns, what the critics had promised, and the first episode as a video if it was drawn.

        Discounted returns beyond what the critics can tell apart are warned of.
        """
        at = self._progress
        returns = [result.episode_return for result in results]
        self._logger.evaluation(at.frames, returns, updates=at.updates, seconds=at.seconds)
        discounted = [result.discounted_return(discount) for result in results]
        promised = [result.start_value for result in results]
        limit = self._config.world_model.symlog_limit
        if (most := float(np.abs(discounted).max())) > math.expm1(limit):
            _log.warning(
                "%d frames: a discounted return of %.0f is beyond the values that critics can tell apart; "
                "start again with --world-model.symlog-limit %.1f",
                at.frames,
                most,
                math.ceil(2 * math.log1p(4 * most)) / 2,  # room for four times as much, in steps of 0.5
            )
        self.scalars(
            {
                "eval/start_value": float(np.mean(promised)),
                "eval/discounted_return": float(np.mean(discounted)),
                "eval/value_error": float(np.mean(np.abs(np.subtract(promised, discounted)))),
            }
        )
        if results[0].images:
            images = write_episode(results[0], self._run_dir / "videos" / f"frames-{at.frames:09d}.gif")
            self._logger.video("eval/episode", images, fps=VIDEO_FPS, at=at.frames)


def write_episode(result: EpisodeResult, path: Path) -> np.ndarray:
    """Write an episode as a GIF that counts frames and return; its images, uint8 (T, H, W, 3)."""
    images = np.stack(result.images).transpose(0, 2, 3, 1)  # (T, 3, H, W) -> (T, H, W, 3)
    captions = episode_captions(result.rewards, result.decision_frames)[: len(images)]
    write_gif(images, path, fps=VIDEO_FPS, captions=captions)
    return images
