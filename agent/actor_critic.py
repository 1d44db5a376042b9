"""Critic ensemble and policy on states (a latent with the action that led to it), and their losses."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from configs.control import ActorCriticOptions
from configs.world_model import WorldModelOptions
from envs.spec import EnvSpec
from world_model.heads import TwoHot
from world_model.layers import EnsembleMLP, mlp
from world_model.momentum import ema_update


def discount_of(options: ActorCriticOptions, env_spec: EnvSpec) -> float:
    """The configured discount per decision, or else 1 - 5 / decisions in an episode, within [0.95, 0.995].

    Source: TD-MPC2, arXiv:2310.16828, appendix.
    """
    if options.discount is not None:
        return options.discount
    return min(max(1 - 5 / env_spec.episode_steps, 0.95), 0.995)


def lambda_returns(reward: Tensor, discount: Tensor, value: Tensor, trace: float) -> Tensor:
    """Returns G_k = r_k + discount_k ((1 - trace) v_{k+1} + trace G_{k+1}), with G_H = v_H.

    Args:
        reward: (B, H), reward[:, k] earned by the k-th action.
        discount: (B, H), gamma * (1 - terminated) of the same step.
        value: (B, H), value of the state that the k-th action led to.
        trace: lambda in [0, 1]; 0 gives one-step targets.

    Returns:
        (B, H).

    Source: Sutton and Barto 2018, eq. 12.20.
    """
    returns = [reward[:, -1] + discount[:, -1] * value[:, -1]]
    for k in range(reward.shape[1] - 2, -1, -1):
        ahead = (1 - trace) * value[:, k] + trace * returns[0]
        returns.insert(0, reward[:, k] + discount[:, k] * ahead)
    return torch.stack(returns, dim=1)


class ActorCritic(nn.Module):
    """N critics and a deterministic policy with values in [-1, 1], each with its moving average."""

    scale: Tensor

    def __init__(
        self, action_dim: int, options: ActorCriticOptions, model_options: WorldModelOptions
    ) -> None:
        """Draw the weights; the target critics start as copies."""
        super().__init__()
        self.options = options
        state_dim, hidden = model_options.latent_dim + action_dim, model_options.hidden_dim
        self.critics = EnsembleMLP(options.critics, state_dim + action_dim, hidden, model_options.bins)
        self.target_critics = copy.deepcopy(self.critics).requires_grad_(False)
        self.policy = mlp(state_dim, hidden, action_dim)
        self.averaged_policy = copy.deepcopy(self.policy).requires_grad_(False)
        self.two_hot = TwoHot(model_options.bins, model_options.symlog_limit)
        # running range of Q, which makes the policy's gradient independent of the scale of rewards
        self.register_buffer("scale", torch.ones(()))

    def act(self, state: Tensor) -> Tensor:
        """Action of the averaged policy, (..., Z + A) -> (..., A)."""
        return self.averaged_policy(state).tanh()

    def q_values(self, state: Tensor, action: Tensor) -> Tensor:
        """Value of each critic, (..., Z + A), (..., A) -> (N, ...)."""
        return self.two_hot.decode(self.critics(torch.cat((state, action), dim=-1)))

    def value(self, state: Tensor) -> Tensor:
        """Value of following the averaged policy, mean over target critics, (..., Z + A) -> (...)."""
        return self.target_q(state, self.act(state))

    def target_q(self, state: Tensor, action: Tensor) -> Tensor:
        """Mean value of the target critics, (..., Z + A), (..., A) -> (...)."""
        logits = self.target_critics(torch.cat((state, action), dim=-1))
        return self.two_hot.decode(logits).mean(dim=0)

    @torch.no_grad()
    def target_value(self, state: Tensor, generator: torch.Generator, *, pessimistic: bool = True) -> Tensor:
        """Value of the policy at an action with clipped noise, the lower of two critics or the mean of all.

        Args:
            state: (..., Z + A).
            generator: draws noise, and critics.
            pessimistic: the lower of two, as `least_target`.

        Returns:
            (...).

        Source: target policy smoothing, TD3, arXiv:1802.09477.
        """
        action = self.policy(state).tanh()
        noise = torch.randn(action.shape, generator=generator, device=state.device, dtype=action.dtype)
        std, clip = self.options.target_noise, 1.5 * self.options.target_noise
        action = (action + (std * noise).clamp(-clip, clip)).clamp(-1, 1)
        if pessimistic:
            return self.least_target(state, action, generator)
        return self.target_q(state, action)

    @torch.no_grad()
    def least_target(self, state: Tensor, action: Tensor, generator: torch.Generator) -> Tensor:
        """The lower value of two target critics drawn at random, (..., Z + A), (..., A) -> (...).

        Source: REDQ, arXiv:2101.05982.
        """
        q = self.two_hot.decode(self.target_critics(torch.cat((state, action), dim=-1)))
        if len(q) > 2:
            drawn = torch.rand(len(q), generator=generator, device=state.device).topk(2).indices
            q = q[drawn]
        return q.amin(dim=0)

    def critic_loss(self, state: Tensor, action: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy to the two-hot target, mean over critics, (B, H, ·) and (B, H) -> (B, H)."""
        logits = self.critics(torch.cat((state, action), dim=-1))
        return self.two_hot.loss(logits, target.expand(len(logits), *target.shape)).mean(dim=0)

    def policy_loss(self, state: Tensor, alive: Tensor) -> Tensor:
        """Negative Q over its running range, plus a penalty that keeps tanh out of saturation.

        The running range takes in these values of Q, as a normalisation layer would.

        Args:
            state: (..., Z + A), detached.
            alive: which of them count, bool (...); the others were never seen, or nothing follows them.

        Returns:
            (...), 0 where nothing counts; gradients reach the policy only.
        """
        raw = self.policy(state)
        q = self.q_values(state, raw.tanh()).mean(dim=0)
        self._update_scale(q.detach().where(alive, math.nan))
        loss = -q / self.scale.clamp(min=1.0) + self.options.action_penalty * raw.square().mean(dim=-1)
        return loss.where(alive, 0.0)

    def imitation_loss(self, state: Tensor, action: Tensor) -> Tensor:
        """Squared distance of the policy's action from the recorded one, which the planner chose.

        Recorded actions are what was executed: plans with exploration noise, older plans, and random
        actions of the start. With `planner_filter`, only those count that the critics prefer to the policy's.

        Args:
            state: (..., Z + A), of recorded observations, detached.
            action: (..., A), taken there.

        Returns:
            (...); gradients reach the policy only.

        Source: behaviour cloning with a Q-filter, Nair et al. (arXiv:1709.10089), beside Q over its range as
        in TD3+BC (arXiv:2106.06860). Deviation: no demonstrations, but the agent's own replay.
        """
        own = self.policy(state).tanh()
        distance = (own - action).square().mean(dim=-1)
        if not self.options.planner_filter:
            return distance
        with torch.no_grad():
            recorded_q, own_q = (self.q_values(state, each).mean(dim=0) for each in (action, own))
        return distance * (recorded_q > own_q)

    @torch.no_grad()
    def _update_scale(self, q: Tensor) -> None:
        """Move the range towards that of these values, of which NaN do not count."""
        # one by one: a tensor of both shares would be copied to the device, which a graph cannot capture
        low, high = (torch.nanquantile(q.flatten().float(), share) for share in (0.05, 0.95))
        self.scale.lerp_(high - low, 0.01)

    def after_step(self) -> None:
        """Move the target critics and the averaged policy towards what was learnt."""
        ema_update(self.target_critics, self.critics, self.options.critic_tau)
        ema_update(self.averaged_policy, self.policy, self.options.critic_tau)
