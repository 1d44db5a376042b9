"""Choosing actions: MPPI in latent space, or the policy alone, behind one interface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from configs.schema import PlannerOptions


class PlanningModel(Protocol):
    """What a planner needs to know of the world; every method works on any leading axes."""

    discount: float

    def step(self, z: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor | float]:
        """(next state, reward, probability that the episode goes on)."""

    def value(self, z: Tensor) -> Tensor:
        """Return expected from a state on."""

    def act(self, z: Tensor) -> Tensor:
        """The policy's action, in [-1, 1]."""


@dataclass(frozen=True)
class Plan:
    """The outcome of planning for E environments.

    Attributes:
        action: (E, A), to be executed.
        mean: (E, H, A), mean of the plan, from which the next one is warm-started.
        std: (E, H, A), deviation of the plan.
        policy_action: (E, A), what the policy alone would do.
        advantage: (E,), predicted return of the plan over that of the policy.
    """

    action: Tensor
    mean: Tensor
    std: Tensor
    policy_action: Tensor
    advantage: Tensor


def rollout_return(model: PlanningModel, z: Tensor, actions: Tensor) -> Tensor:
    """Predicted discounted return of action sequences, closed by the terminal value.

    Args:
        model: world to plan in.
        z: (..., Z).
        actions: (..., H, A).

    Returns:
        (...).
    """
    total, weight = 0.0, 1.0
    for k in range(actions.shape[-2]):
        z, reward, continuation = model.step(z, actions[..., k, :])
        total = total + weight * reward
        weight = weight * model.discount * continuation
    return total + weight * model.value(z)


def policy_rollout(model: PlanningModel, z: Tensor, horizon: int, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Sequences that follow the policy with added noise, and their returns.

    Args:
        model: world to plan in.
        z: (E, K, Z).
        horizon: H.
        noise: (E, K, H, A), added to the policy's actions.

    Returns:
        Actions (E, K, H, A) and returns (E, K).
    """
    actions, total, weight = [], 0.0, 1.0
    for k in range(horizon):
        actions.append((model.act(z) + noise[:, :, k]).clamp(-1, 1))
        z, reward, continuation = model.step(z, actions[-1])
        total = total + weight * reward
        weight = weight * model.discount * continuation
    return torch.stack(actions, dim=2), total + weight * model.value(z)


class MPPI:
    """Model-predictive path integral control, seeded by the policy, for several environments at once.

    Source: Williams et al., arXiv:1707.02342; policy seeding and warm start as in TD-MPC2,
    arXiv:2310.16828. Deviation: the softmax temperature is measured in the spread of the elites'
    returns, so that it does not depend on the scale of the rewards.
    """

    def __init__(self, options: PlannerOptions):
        self.options = options

    def plan(
        self,
        model: PlanningModel,
        z: Tensor,
        mean: Tensor,
        *,
        noise_floor: float,
        generator: torch.Generator,
    ) -> Plan:
        """Refine action sequences and return the best guess.

        Args:
            model: world to plan in.
            z: (E, Z), present states.
            mean: (E, H, A), where the search starts.
            noise_floor: deviation added to the executed action at least; 0 executes the mean.
            generator: draws candidates and exploration noise.
        """
        options = self.options
        envs, horizon, action_dim = mean.shape

        def normal(count: int) -> Tensor:
            return torch.randn(envs, count, horizon, action_dim, generator=generator, device=z.device)

        noise = options.policy_std * normal(options.policy_samples)
        noise[:, 0] = 0.0
        proposals, proposal_returns = policy_rollout(
            model, z[:, None].expand(-1, options.policy_samples, -1), horizon, noise
        )
        starts = z[:, None].expand(-1, options.samples, -1)
        std = torch.full_like(mean, options.max_std)
        for _ in range(options.iterations):
            samples = (mean[:, None] + std[:, None] * normal(options.samples)).clamp(-1, 1)
            returns = torch.cat((rollout_return(model, starts, samples), proposal_returns), dim=1)
            mean, std = self._refit(torch.cat((samples, proposals), dim=1), returns)
        return self._choose(model, z, mean, std, proposals, proposal_returns, noise_floor, generator)

    def _refit(self, candidates: Tensor, returns: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the elites, weighted by return: (E, N, H, A), (E, N) -> (E, H, A) twice."""
        best, index = returns.topk(self.options.elites, dim=1)
        elites = candidates.gather(1, index[:, :, None, None].expand(-1, -1, *candidates.shape[2:]))
        spread = best.std(dim=1, keepdim=True) + 1e-6
        weights = ((best - best[:, :1]) / (self.options.temperature * spread)).softmax(dim=1)[:, :, None, None]
        mean = (weights * elites).sum(dim=1)
        variance = (weights * (elites - mean[:, None]).square()).sum(dim=1)
        return mean, variance.sqrt().clamp(self.options.min_std, self.options.max_std)

    def _choose(
        self,
        model: PlanningModel,
        z: Tensor,
        mean: Tensor,
        std: Tensor,
        proposals: Tensor,
        proposal_returns: Tensor,
        noise_floor: float,
        generator: torch.Generator,
    ) -> Plan:
        """Fall back on the policy where the plan does not beat it by the model's own estimate."""
        advantage = rollout_return(model, z, mean) - proposal_returns[:, 0]
        mean = torch.where((advantage > 0)[:, None, None], mean, proposals[:, 0])
        action = mean[:, 0]
        if noise_floor > 0:
            noise = torch.randn(action.shape, generator=generator, device=z.device)
            action = (action + std[:, 0].clamp(min=noise_floor) * noise).clamp(-1, 1)
        return Plan(action, mean, std, proposals[:, 0, 0], advantage)


class PolicyOnly:
    """The policy's own action, with Gaussian exploration noise."""

    def __init__(self, options: PlannerOptions):
        self.options = options

    def plan(
        self,
        model: PlanningModel,
        z: Tensor,
        mean: Tensor,
        *,
        noise_floor: float,
        generator: torch.Generator,
    ) -> Plan:
        """As `MPPI.plan`; the mean is only passed through."""
        policy_action = model.act(z)
        noise = torch.randn(policy_action.shape, generator=generator, device=z.device)
        action = (policy_action + noise_floor * noise).clamp(-1, 1)
        return Plan(action, mean, torch.zeros_like(mean), policy_action, torch.zeros_like(z[:, 0]))


Planner = MPPI | PolicyOnly
PLANNERS: dict[str, type[MPPI] | type[PolicyOnly]] = {"mppi": MPPI, "policy": PolicyOnly}
