"""What searches are measured against: random shooting, and the policy alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from agent.planners.base import Plan, Planner, PlanningModel, Search, explore, try_out


class RandomShooting(Search):
    """The best of candidates that are drawn once: no refinement, no memory.

    It draws as many as a refining search in all its iterations, so that the model is asked as often: what
    others do better than this floor is what refining and remembering are worth.

    Source: Nagabandi et al., arXiv:1708.02596, section IV. Deviation: uniform offsets around the closed-loop
    policy, of deviation `max_std`, instead of uniform open-loop actions.
    """

    def search(
        self, model: PlanningModel, state: Tensor, memory: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """As `Search.search`; there is nothing to remember."""
        envs, _, horizon, action_dim = memory.shape
        shape = (envs, self.options.samples * self.options.iterations, horizon, action_dim)
        uniform = torch.rand(shape, generator=generator, device=state.device)
        noise = math.sqrt(3) * (2 * uniform - 1)
        offsets = self.options.max_std * noise
        self.include_policy(offsets, noise)
        _, returns = try_out(model, state, offsets)
        best = returns.argmax(dim=1)
        return offsets[torch.arange(envs, device=state.device), best], memory


class PolicyOnly(Planner):
    """The policy's own action, with Gaussian exploration noise."""

    def plan(
        self,
        model: PlanningModel,
        state: Tensor,
        memory: Tensor,
        *,
        noise_std: float,
        generator: torch.Generator,
    ) -> Plan:
        """As `Planner.plan`; there is nothing to search for."""
        action = model.act(state)
        offsets = memory.new_zeros(len(memory), *memory.shape[2:])
        advantage = torch.zeros_like(state[:, 0])
        return Plan(explore(action, noise_std, generator), offsets, memory, action, advantage)
