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
        mean: (E, H, A), the plan: offsets from the policy's actions.
        policy_action: (E, A), what the policy alone would do.
        advantage: (E,), predicted return of the plan over that of the policy.
    """

    action: Tensor
    mean: Tensor
    policy_action: Tensor
    advantage: Tensor


def rollout(model: PlanningModel, z: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Follow the policy with offsets added to its actions, closed by the terminal value.

    Args:
        model: world to plan in.
        z: (..., Z).
        offsets: (..., H, A), added to the policy's action in each imagined state.

    Returns:
        The first action (..., A), and the predicted discounted return (...).
    """
    first: Tensor | None = None
    total: Tensor | float = 0.0
    weight: Tensor | float = 1.0
    for k in range(offsets.shape[-2]):
        action = (model.act(z) + offsets[..., k, :]).clamp(-1, 1)
        first = action if first is None else first
        z, reward, continuation = model.step(z, action)
        total = total + weight * reward
        weight = weight * model.discount * continuation
    assert first is not None, offsets.shape
    return first, total + weight * model.value(z)


class MPPI:
    """Model-predictive path integral control around the policy, for several environments at once.

    A plan is a sequence of offsets from the policy's own actions, so that the search starts at the policy,
    candidates react to the states that they reach, and zero offsets are the policy itself.

    Source: Williams et al., arXiv:1707.02342; latent model, terminal value and warm start as in TD-MPC2,
    arXiv:2310.16828. Deviations: offsets from a closed-loop policy instead of open-loop actions; all
    candidates are averaged instead of an elite, with a temperature in units of the spread of their
    returns. Both keep the plan from following the errors of single returns.
    """

    def __init__(self, options: PlannerOptions) -> None:
        """Plan with these options."""
        self.options = options

    def plan(
        self,
        model: PlanningModel,
        z: Tensor,
        mean: Tensor,
        *,
        noise_std: float,
        generator: torch.Generator,
    ) -> Plan:
        """Refine offsets from the policy and return the best guess.

        Args:
            model: world to plan in.
            z: (E, Z), present states.
            mean: (E, H, A), offsets of the plan before, one of the first candidates.
            noise_std: deviation of the noise on the executed action; 0 is deterministic.
            generator: draws candidates and exploration noise.
        """
        options = self.options
        envs, horizon, action_dim = mean.shape
        starts = z[:, None].expand(-1, options.samples, -1)
        warm, mean, std = mean, torch.zeros_like(mean), torch.full_like(mean, options.max_std)
        for iteration in range(options.iterations):
            shape = (envs, options.samples, horizon, action_dim)
            noise = torch.randn(shape, generator=generator, device=z.device)
            offsets = mean[:, None] + std[:, None] * noise
            if iteration == 0:
                offsets[:, 0], offsets[:, 1] = 0.0, warm
            _, returns = rollout(model, starts, offsets)
            mean, std = self._refit(offsets, returns)
        return self._choose(model, z, mean, noise_std, generator)

    def _refit(self, offsets: Tensor, returns: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation weighted by return: (E, N, H, A), (E, N) -> (E, H, A) twice."""
        spread = returns.std(dim=1, keepdim=True) + 1e-6
        weights = (returns / (self.options.temperature * spread)).softmax(dim=1)[:, :, None, None]
        mean = (weights * offsets).sum(dim=1)
        variance = (weights * (offsets - mean[:, None]).square()).sum(dim=1)
        return mean, variance.sqrt().clamp(self.options.min_std, self.options.max_std)

    def _choose(
        self,
        model: PlanningModel,
        z: Tensor,
        mean: Tensor,
        noise_std: float,
        generator: torch.Generator,
    ) -> Plan:
        """Stay with the policy where the plan does not beat it by the model's own estimate."""
        candidates = torch.stack((mean, torch.zeros_like(mean)), dim=1)
        actions, returns = rollout(model, z[:, None].expand(-1, 2, -1), candidates)
        advantage = returns[:, 0] - returns[:, 1]
        is_better = advantage > 0
        mean = torch.where(is_better[:, None, None], mean, 0.0)
        action = torch.where(is_better[:, None], actions[:, 0], actions[:, 1])
        if noise_std > 0:
            noise = torch.randn(action.shape, generator=generator, device=z.device)
            action = (action + noise_std * noise).clamp(-1, 1)
        return Plan(action, mean, actions[:, 1], advantage)


class PolicyOnly:
    """The policy's own action, with Gaussian exploration noise."""

    def __init__(self, options: PlannerOptions) -> None:
        """Take what all planners take; there is nothing to search for."""

    def plan(
        self,
        model: PlanningModel,
        z: Tensor,
        mean: Tensor,
        *,
        noise_std: float,
        generator: torch.Generator,
    ) -> Plan:
        """As `MPPI.plan`; the mean is only passed through."""
        policy_action = model.act(z)
        noise = torch.randn(policy_action.shape, generator=generator, device=z.device)
        action = (policy_action + noise_std * noise).clamp(-1, 1)
        return Plan(action, mean, policy_action, torch.zeros_like(z[:, 0]))


Planner = MPPI | PolicyOnly
PLANNERS: dict[str, type[MPPI] | type[PolicyOnly]] = {"mppi": MPPI, "policy": PolicyOnly}
