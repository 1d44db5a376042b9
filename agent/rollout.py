"""Acting without learning: evaluation episodes, several side by side."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from agent.agent import Agent
from agent.controller import Controller
from agent.stopping import StopRequest
from envs.spec import Pool, WorkerError

MAX_ATTEMPTS = 3
"""Times that episodes are begun: what fails at the same seeds each time is no accident."""


@dataclass
class EpisodeResult:
    """One evaluation episode.

    Attributes:
        seed: what the environment was reset with.
        episode_return: sum of rewards.
        rewards: reward of each decision.
        decision_frames: frames that each decision lasted.
        start_value: value that the critics gave to the first observation.
        images: RGB frames, uint8 (3, H, W) each, if they were asked for.
    """

    seed: int
    episode_return: float = 0.0
    rewards: list[float] = field(default_factory=list)
    decision_frames: list[int] = field(default_factory=list)
    start_value: float = 0.0
    images: list[np.ndarray] = field(default_factory=list)

    def discounted_return(self, discount: float) -> float:
        """Sum of rewards, each discounted by the decisions before it."""
        return float(np.dot(self.rewards, discount ** np.arange(len(self.rewards))))


def evaluate(
    agent: Agent,
    pool: Pool,
    seeds: list[int],
    *,
    control: str | None = None,
    images: bool = False,
    stop: StopRequest | None = None,
) -> list[EpisodeResult]:
    """Run one deterministic episode for each seed; the agent and its training streams stay as they are.

    Args:
        agent: who acts.
        pool: where; as many episodes as it has environments run side by side.
        seeds: of the episodes' resets.
        control: name of a planner; unset: as configured.
        images: keep the frames of the first episode.
        stop: where it is requested, the episodes are cut short at once.

    Returns:
        Results in the order of `seeds`. Episodes run in groups of `pool.count`, each group with a
        planner stream of its own, so that the first results do not depend on how many follow. Where an
        environment fails, its whole group is made again, so that results do not depend on that either.

    Raises:
        WorkerError: environments fail at the same seeds again and again.
    """
    results: list[EpisodeResult] = []
    for first in range(0, len(seeds), pool.count):
        chosen = seeds[first : first + pool.count]
        for _ in range(MAX_ATTEMPTS):
            group = [EpisodeResult(seed) for seed in chosen]
            generator = torch.Generator(agent.device).manual_seed(group[0].seed)
            controller = Controller(agent, len(group), generator, control=control)
            if _run_group(controller, pool, group, images=images and first == 0, stop=stop):
                break
        else:
            raise WorkerError(
                f"{pool.env_spec.task} failed in {MAX_ATTEMPTS} attempts to evaluate with the seeds {chosen}"
            )
        results += group
    return results


def _run_group(
    controller: Controller,
    pool: Pool,
    group: list[EpisodeResult],
    *,
    images: bool,
    stop: StopRequest | None,
) -> bool:
    """Fill in the results; returns False as soon as an environment fails."""
    started = pool.reset({i: result.seed for i, result in enumerate(group)})
    if len(started) < len(group):
        return False
    obs = {i: first_obs for i, (first_obs, _) in started.items()}
    for i, value in controller.values(obs).items():
        group[i].start_value = value
    while obs and not (stop and stop.requested):
        if images and 0 in obs:
            group[0].images.append(obs[0].frame)
        steps = pool.step(controller.act(obs))
        if len(steps) < len(obs):
            return False
        for i, step in steps.items():
            group[i].episode_return += step.reward
            group[i].rewards.append(step.reward)
            group[i].decision_frames.append(step.frames)
        obs = {i: step.obs for i, step in steps.items() if not (step.terminated or step.truncated)}
    return True
