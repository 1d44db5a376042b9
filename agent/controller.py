"""Closed-loop control: observations of several environments in, planned actions out."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from agent.agent import Agent
from agent.planners.base import Plan, joined
from agent.planners.registry import PLANNERS
from envs.spec import Observation


class Controller:
    """Closed-loop control of E environments: encodes, plans, and warm-starts the next plan.

    It remembers each environment's last action, which is part of the state.

    Training and evaluation hold one each, so that neither disturbs the other.
    """

    def __init__(
        self,
        agent: Agent,
        envs: int,
        generator: torch.Generator,
        *,
        control: str | None = None,
        collects: bool = False,
    ) -> None:
        """Control `envs` environments.

        Args:
            agent: who decides; it may go on learning.
            envs: how many environments.
            generator: draws candidates and exploration noise.
            control: replaces the configured kind of planner.
            collects: behave as the agent does to gather experience, instead of doing the task.
        """
        options = agent.config.planner
        self.agent = agent
        self.collects = collects
        self.explores = [collects] * envs
        self.generator = generator
        self.planner = PLANNERS[control or options.control](options)
        self.memory = self.planner.start(envs, agent.env_spec.action_dim, agent.device)
        self.last_action = torch.zeros(envs, agent.env_spec.action_dim, device=agent.device)
        self.plan: Plan | None = None
        self._count = 0
        self._gap = torch.zeros((), device=agent.device)
        self._preferred = torch.zeros((), device=agent.device)

    def reset(self, env: int, episode: int = 0) -> None:
        """Forget plans and last action of one environment, at the start of an episode, by its number."""
        self.memory[env] = 0.0
        self.last_action[env] = 0.0
        self.explores[env] = self.collects and self.agent.explores(episode)

    def took(self, actions: dict[int, np.ndarray]) -> None:
        """Remember actions that were chosen elsewhere, environment index -> (A,)."""
        for env, action in actions.items():
            self.last_action[env] = torch.from_numpy(action)

    def start_counting(self) -> None:
        """Let `planner_metrics` cover the decisions from here on."""
        self._count = 0
        self._gap.zero_()
        self._preferred.zero_()

    def planner_metrics(self) -> dict[str, float]:
        """How far plans went from the policy's action, and the share of them that was preferred to it."""
        if not self._count:
            return {}
        return {
            "train/plan_policy_gap": float(self._gap) / self._count,
            "train/plan_preferred": float(self._preferred) / self._count,
        }

    @torch.no_grad()
    def act(self, obs: dict[int, Observation], noise_std: float = 0.0) -> dict[int, np.ndarray]:
        """Actions for some of the environments.

        Args:
            obs: environment index -> observation.
            noise_std: deviation of the noise on the action; 0 is deterministic.

        Returns:
            Environment index -> float32 (A,) in [-1, 1].
        """
        rows = sorted(obs, key=lambda env: self.explores[env])
        does_task = len(rows) - sum(self.explores[env] for env in rows)
        state = self._encode({env: obs[env] for env in rows})
        kinds = (self.agent, slice(does_task)), (self.agent.behaviour, slice(does_task, None))
        plans = [
            self.planner.plan(
                model, state[part], self.memory[rows[part]], noise_std=noise_std, generator=self.generator
            )
            for model, part in kinds
            if rows[part]
        ]
        self.plan = joined(plans)
        self._count += len(rows)
        self._gap += self.plan.offsets[:, 0].abs().mean(dim=1).sum()
        self._preferred += (self.plan.advantage > 0).sum()
        self.memory[rows] = self.plan.memory
        self.last_action[rows] = self.plan.action.float()
        return dict(zip(rows, self.plan.action.float().cpu().numpy(), strict=True))

    @torch.no_grad()
    def values(self, obs: dict[int, Observation]) -> dict[int, float]:
        """Value that the critics give to observations, environment index -> float."""
        return dict(zip(obs, self.agent.value(self._encode(obs)).tolist(), strict=True))

    def _encode(self, obs: dict[int, Observation]) -> Tensor:
        pixels, proprio = (
            torch.from_numpy(np.stack(parts)).to(self.agent.device)
            for parts in zip(*obs.values(), strict=True)
        )
        return self.agent.encode(pixels, proprio, self.last_action[list(obs)])
