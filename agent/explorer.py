"""Who seeks what is novel: the bonus, what the model expects of it, critics and a policy of its own."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from agent.actor_critic import ActorCritic
from configs.control import ActorCriticOptions
from configs.schema import Config
from envs.spec import EnvSpec
from world_model.batch import Batch, Latents
from world_model.curiosity import (
    Arrivals,
    Bonus,
    Disagreement,
    Normaliser,
    ParticleEntropy,
    Surprise,
    Unmatched,
    unit_keys,
)
from world_model.heads import TwoHot
from world_model.layers import mlp
from world_model.memory import EMPTY
from world_model.model import WorldModel
from world_model.momentum import ema_update


def make_bonus(config: Config, env_spec: EnvSpec, model: WorldModel) -> Bonus:
    """The bonus of a configuration that has one."""
    options, sizes = config.curiosity, config.world_model
    key_dim = model.objective.key(model.encoder.linear.bias.detach()[None]).shape[-1]
    match options.bonus:
        case "contrastive":
            return Unmatched(options, sizes, key_dim)
        case "surprise":
            return Surprise(options, sizes, key_dim, predict=model.expect, objective=model.objective)
        case "knn":
            return ParticleEntropy(options, sizes, key_dim)
        case "disagreement":
            return Disagreement(options, sizes, sizes.latent_dim + 2 * env_spec.action_dim)
        case name:
            raise ValueError(f"no bonus {name!r}")


class Explorer(nn.Module):
    """Bonus, its normalisation, a head that expects it, and an actor-critic that seeks it beside the reward.

    It learns on latents that are detached: what is novel does not shape the representation.

    Attributes:
        weight: of the bonus beside the reward, 0-d; set by `CuriousAgent.advance`.
    """

    weight: Tensor

    def __init__(self, env_spec: EnvSpec, config: Config, model: WorldModel) -> None:
        """Draw the weights; the averages start as copies."""
        super().__init__()
        options = config.world_model
        state_dim = options.latent_dim + env_spec.action_dim
        self.critic_options: ActorCriticOptions = config.actor_critic
        self.bonus = make_bonus(config, env_spec, model)
        self.normaliser = Normaliser(config.curiosity.clip)
        self.reward = mlp(state_dim + env_spec.action_dim, options.hidden_dim, options.bins, zero_output=True)
        self.averaged_reward = copy.deepcopy(self.reward).requires_grad_(False)
        self.actor_critic = ActorCritic(env_spec.action_dim, config.actor_critic, options)
        self.two_hot = TwoHot(options.bins, options.symlog_limit)
        self.tau = options.key_tau
        self.register_buffer("weight", torch.zeros(()))

    @torch.no_grad()
    def rewards(self, batch: Batch, arrivals: Arrivals) -> Tensor:
        """Normalised bonuses of a batch's decisions as they are by now, (B, H); takes their range in."""
        bonus = self.bonus(arrivals)
        self.normaliser.follow(bonus, arrivals.episode != EMPTY)
        return self.normaliser(bonus).unflatten(0, batch.reward.shape)

    def model_loss(self, batch: Batch, latents: Latents, rewards: Tensor, arrivals: Arrivals) -> Tensor:
        """What reward head and bonus learn from, (B, H)."""
        inputs = torch.cat((latents.state[:, :-1].detach(), batch.action), dim=-1)
        loss = self.two_hot.loss(self.reward(inputs), rewards)
        own = self.bonus.loss(arrivals)
        return loss if own is None else loss + own.unflatten(0, loss.shape)

    def policy_loss(self, state: Tensor, alive: Tensor, task: ActorCritic) -> Tensor:
        """Negative value of bonus and reward together, as `ActorCritic.policy_loss`.

        Args:
            state: (..., Z + A), detached.
            alive: which of them count, bool (...).
            task: what knows the reward's values; it is not changed.
        """
        raw = self.actor_critic.policy(state)
        action = raw.tanh()
        value = self.weight * self.actor_critic.relative_q(state, action, alive)
        value = value + task.relative_q(state, action)
        loss = -value + self.critic_options.action_penalty * raw.square().mean(dim=-1)
        return loss.where(alive, 0.0)

    def expected_reward(self, state: Tensor, action: Tensor) -> Tensor:
        """Bonus that the averaged head expects, (..., Z + A), (..., A) -> (...)."""
        return self.two_hot.decode(self.averaged_reward(torch.cat((state, action), dim=-1)))

    @torch.no_grad()
    def remember(self, batch: Batch, latents: Latents, model: WorldModel) -> None:
        """Put one state of each window into the bonus's memory: its first, its second, ... in turn."""
        rows = torch.arange(len(batch.time), device=batch.time.device)
        step = rows % (batch.horizon + 1)
        episode = batch.episode.masked_fill(~batch.was_seen[rows, step], EMPTY)
        key = unit_keys(model.objective, latents.z_key[rows, step])
        self.bonus.remember(key, episode, batch.time + step)

    def after_step(self) -> None:
        """Move the averages towards what was learnt."""
        ema_update(self.averaged_reward, self.reward, self.tau)
        self.actor_critic.after_step()
