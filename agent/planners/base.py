"""What planners share: the model they ask, rollouts, exploration noise, the comparison with the policy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import torch
from torch import Tensor

from configs.control import PlannerOptions


class PlanningModel(Protocol):
    """What a planner needs to know of the world; every method works on any leading axes.

    A state is a latent with the action that led to it, (..., Z + A); planners do not look inside.
    """

    discount: float

    def step(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor | float]:
        """(next state, reward, probability that the episode goes on)."""

    def value(self, state: Tensor) -> Tensor:
        """Return expected from a state on."""

    def act(self, state: Tensor) -> Tensor:
        """The policy's action, in [-1, 1]."""


@dataclass(frozen=True)
class Plan:
    """The outcome of planning for E environments.

    Attributes:
        action: (E, A), to be executed.
        offsets: (E, H, A), the plan: offsets from the policy's actions; zeros are the policy itself.
        memory: (E, M, H, A), what planning starts from at the next decision.
        policy_action: (E, A), what the policy alone would do.
        advantage: (E,), predicted return of the proposed plan over that of the policy.
    """

    action: Tensor
    offsets: Tensor
    memory: Tensor
    policy_action: Tensor
    advantage: Tensor


def joined(plans: Sequence[Plan]) -> Plan:
    """Plans for several groups of environments as one for all, in the order given."""
    if len(plans) == 1:
        return plans[0]
    parts = {field.name: [getattr(plan, field.name) for plan in plans] for field in fields(Plan)}
    return Plan(**{name: torch.cat(each) for name, each in parts.items()})


def rollout(model: PlanningModel, state: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Follow the policy with offsets added to its actions, closed by the terminal value.

    Args:
        model: world to plan in.
        state: (..., Z + A).
        offsets: (..., H, A), added to the policy's action in each imagined state.

    Returns:
        The first action (..., A), and the predicted discounted return (...).
    """
    first: Tensor | None = None
    total: Tensor | float = 0.0
    weight: Tensor | float = 1.0
    for k in range(offsets.shape[-2]):
        action = (model.act(state) + offsets[..., k, :]).clamp(-1, 1)
        first = action if first is None else first
        state, reward, continuation = model.step(state, action)
        total = total + weight * reward
        weight = weight * model.discount * continuation
    assert first is not None, offsets.shape
    return first, total + weight * model.value(state)


def try_out(model: PlanningModel, state: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Roll out N candidates in each environment: (E, Z + A), (E, N, H, A) -> (E, N, A), (E, N)."""
    return rollout(model, state[:, None].expand(-1, offsets.shape[1], -1), offsets)


def explore(action: Tensor, noise_std: float, generator: torch.Generator) -> Tensor:
    """The action with Gaussian noise, within [-1, 1]; without a deviation nothing is drawn."""
    if noise_std == 0:
        return action
    noise = torch.randn(action.shape, generator=generator, device=action.device)
    return (action + noise_std * noise).clamp(-1, 1)


class Planner(ABC):
    """Chooses actions for several environments at once.

    Attributes:
        options: how to plan.
        remembered: M, how many plans a decision hands on to the next.
    """

    remembered = 0

    def __init__(self, options: PlannerOptions) -> None:
        """Plan with these options."""
        self.options = options

    def start(self, envs: int, action_dim: int, device: torch.device) -> Tensor:
        """What to plan from at an episode's start: the policy alone, (E, M, H, A)."""
        return torch.zeros(envs, self.remembered, self.options.horizon, action_dim, device=device)

    @abstractmethod
    def plan(
        self,
        model: PlanningModel,
        state: Tensor,
        memory: Tensor,
        *,
        noise_std: float,
        generator: torch.Generator,
    ) -> Plan:
        """Choose the next actions.

        Args:
            model: world to plan in.
            state: (E, Z + A), present states.
            memory: (E, M, H, A), of `start` or of the plan before.
            noise_std: deviation of the noise on the executed action; 0 is deterministic.
            generator: draws candidates and exploration noise.
        """


class Search(Planner):
    """Looks for a plan that beats the policy by the model's own estimate, and else stays with the policy.

    A plan is a sequence of offsets from the policy's own actions, so that candidates react to the states
    that they reach, and zero offsets are the policy itself.
    """

    @abstractmethod
    def search(
        self, model: PlanningModel, state: Tensor, memory: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """The plan to propose, (E, H, A), and plans to remember, (E, M, H, A); arguments as of `plan`."""

    def plan(
        self,
        model: PlanningModel,
        state: Tensor,
        memory: Tensor,
        *,
        noise_std: float,
        generator: torch.Generator,
    ) -> Plan:
        """As `Planner.plan`; where the policy is not beaten, memory begins with it again."""
        offsets, memory = self.search(model, state, memory, generator)
        candidates = torch.stack((offsets, torch.zeros_like(offsets)), dim=1)
        actions, returns = try_out(model, state, candidates)
        advantage = returns[:, 0] - returns[:, 1]
        is_better = advantage > 0
        offsets = torch.where(is_better[:, None, None], offsets, 0.0)
        memory = torch.where(is_better[:, None, None, None], memory, 0.0)
        action = torch.where(is_better[:, None], actions[:, 0], actions[:, 1])
        # one decision later; nothing is planned there yet, so that the policy decides
        memory = torch.cat((memory[:, :, 1:], torch.zeros_like(memory[:, :, :1])), dim=2)
        return Plan(explore(action, noise_std, generator), offsets, memory, actions[:, 1], advantage)

    def include_policy(self, offsets: Tensor, noise: Tensor) -> None:
        """Put `policy_share` of the first candidates close to the policy, and one of them on it.

        Args:
            offsets: (E, N, H, A), overwritten from the first candidate on.
            noise: (E, N, H, A), of unit deviation.
        """
        count = round(self.options.policy_share * offsets.shape[1])
        offsets[:, :count] = self.options.min_std * noise[:, :count]
        offsets[:, 0] = 0.0


class GaussianSearch(Search):
    """Draws candidates from a Gaussian, fits it to the better ones again and again, and proposes its mean.

    The policy and the plan of the decision before are among the first candidates.
    """

    remembered = 1

    @abstractmethod
    def first_mean(self, before: Tensor) -> Tensor:
        """Where the search starts, given the rest of the plan before, (E, H, A) -> (E, H, A)."""

    @abstractmethod
    def fit(self, offsets: Tensor, returns: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the next candidates, (E, N, H, A), (E, N) -> (E, H, A) twice."""

    def search(
        self, model: PlanningModel, state: Tensor, memory: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """As `Search.search`; the mean is remembered."""
        options, before = self.options, memory[:, 0]
        mean, std = self.first_mean(before), torch.full_like(before, options.max_std)
        shape = (len(before), options.samples, *before.shape[1:])
        for iteration in range(options.iterations):
            noise = torch.randn(shape, generator=generator, device=state.device)
            offsets = mean[:, None] + std[:, None] * noise
            if iteration == 0:
                self.include_policy(offsets, noise)
                offsets[:, 1] = before
            _, returns = try_out(model, state, offsets)
            mean, std = self.fit(offsets, returns)
        return mean, mean[:, None]
