"""Who seeks what is novel: the bonus, what the model expects of it, critics and a policy of its own."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from agent.actor_critic import ActorCritic
from configs.curiosity import CuriosityOptions
from configs.schema import Config
from configs.world_model import WorldModelOptions
from envs.spec import EnvSpec
from world_model.batch import Batch, Latents
from world_model.curiosity import (
    Arrivals,
    Bonus,
    ContrastiveBonus,
    DisagreementBonus,
    KnnBonus,
    Normaliser,
    SurpriseBonus,
    unit_keys,
)
from world_model.heads import TwoHot
from world_model.layers import mlp
from world_model.memory import EMPTY
from world_model.model import WorldModel
from world_model.momentum import ema_update
from world_model.objectives.base import Objective


def make_bonus(
    options: CuriosityOptions, sizes: WorldModelOptions, model: WorldModel, action_dim: int
) -> Bonus:
    """The bonus of a configuration that has one."""
    key_dim = model.objective.key(model.encoder.linear.bias.detach()[None]).shape[-1]
    match options.bonus:
        case "contrastive":
            return ContrastiveBonus(options, sizes, key_dim)
        case "surprise":
            return SurpriseBonus(options, sizes, key_dim, predict=model.expect, objective=model.objective)
        case "knn":
            return KnnBonus(options, sizes, key_dim)
        case "disagreement":
            return DisagreementBonus(options, sizes, sizes.latent_dim + 2 * action_dim)
        case name:
            raise ValueError(f"no bonus {name!r}")


class Explorer(nn.Module):
    """Bonus, its normalisation, a head that expects it, and an actor-critic that seeks it beside the reward.

    It learns on latents that are detached: what is novel does not shape the representation.

    Attributes:
        weight: of the bonus beside the reward, 0-d; set by `CuriousAgent.advance`.
        task_deviation: running deviation of the task's Q-values over states, 0-d.
        bonus_deviation: that of the bonus's.
        was_rewarded: whether any rewards differed yet, bool, 0-d.
    """

    weight: Tensor
    task_deviation: Tensor
    bonus_deviation: Tensor
    was_rewarded: Tensor

    SMALLEST_DEVIATION = 0.01  # less is the noise of critics that know of no reward

    def __init__(self, env_spec: EnvSpec, config: Config, model: WorldModel) -> None:
        """Draw the weights; the averages start as copies."""
        super().__init__()
        options, action_dim = config.world_model, env_spec.action_dim
        inputs = options.latent_dim + 2 * action_dim
        self.bonus = make_bonus(config.curiosity, options, model, action_dim)
        self.normaliser = Normaliser(config.curiosity.clip, centred=not env_spec.can_terminate)
        self.bonus_head = mlp(inputs, options.hidden_dim, options.bins, zero_output=True)
        self.averaged_bonus_head = copy.deepcopy(self.bonus_head).requires_grad_(False)
        self.actor_critic = ActorCritic(action_dim, config.actor_critic, options)
        self.two_hot = TwoHot(options.bins, options.symlog_limit)
        self.tau, self.action_penalty = options.key_tau, config.actor_critic.action_penalty
        self.register_buffer("weight", torch.zeros(()))
        self.register_buffer("task_deviation", torch.ones(()))
        self.register_buffer("bonus_deviation", torch.ones(()))
        self.register_buffer("was_rewarded", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def normalised_bonus(self, batch: Batch, arrivals: Arrivals) -> Tensor:
        """Bonuses of a batch's decisions as they are by now, (B, H); takes their range in."""
        bonus = self.bonus(arrivals)
        self.normaliser.follow(bonus, arrivals.episode != EMPTY)
        return self.normaliser(bonus).unflatten(0, batch.reward.shape)

    def model_loss(self, batch: Batch, latents: Latents, bonus: Tensor, arrivals: Arrivals) -> Tensor:
        """What the head learns to expect and the bonus learns by itself, (B, H)."""
        inputs = torch.cat((latents.state[:, :-1].detach(), batch.action), dim=-1)
        loss = self.two_hot.loss(self.bonus_head(inputs), bonus)
        own = self.bonus.loss(arrivals)
        return loss if own is None else loss + own.unflatten(0, loss.shape)

    def policy_loss(self, state: Tensor, alive: Tensor, task: ActorCritic) -> Tensor:
        """Negative value of bonus and reward together, as `ActorCritic.policy_loss`; takes their ranges in.

        Args:
            state: (..., Z + A), detached.
            alive: which of them count, bool (...).
            task: what knows the reward's values; it is not changed.
        """
        raw = self.actor_critic.policy(state)
        action = raw.tanh()
        task_q, bonus_q = (each.q_values(state, action).mean(dim=0) for each in (task, self.actor_critic))
        _follow_deviation(self.task_deviation, task_q.detach(), alive)
        _follow_deviation(self.bonus_deviation, bonus_q.detach(), alive)
        loss = self.action_penalty * raw.square().mean(dim=-1) - self.together(task_q, bonus_q)
        return loss.where(alive, 0.0)

    def together(self, task: Tensor, bonus: Tensor) -> Tensor:
        """Rewards, or values, of the task and the weighted bonus, each over the deviation of its values."""
        return task / self.task_deviation.clamp_min(self.SMALLEST_DEVIATION) + (
            self.weight * bonus / self.bonus_deviation.clamp_min(self.SMALLEST_DEVIATION)
        )

    def expected_bonus(self, state: Tensor, action: Tensor, latent: Tensor, objective: Objective) -> Tensor:
        """Bonus of an imagined step, (..., Z + A), (..., A) and the latent it leads to, (..., Z) -> (...).

        What is imagined is looked up in memory, or shown to the ensemble, as what was seen is: a head fitted
        to what was seen does not know what was not. It is for bonuses that need the outcome.
        """
        if not self.bonus.foresees:
            return self.two_hot.decode(self.averaged_bonus_head(torch.cat((state, action), dim=-1)))
        bonus = self.bonus(Arrivals.imagined(state, action, latent, objective))
        return self.normaliser(bonus).unflatten(0, action.shape[:-1])

    @torch.no_grad()
    def target_value(self, state: Tensor, generator: torch.Generator) -> Tensor:
        """Value of the exploring policy, mean over target critics: where they disagree, few have been."""
        return self.actor_critic.target_value(state, generator, pessimistic=False)

    @torch.no_grad()
    def remember(self, batch: Batch, latents: Latents, model: WorldModel) -> None:
        """Put one state of each window into the bonus's memory: its first, its second, ... in turn."""
        rows = torch.arange(len(batch.time), device=batch.time.device)
        step = rows % (batch.horizon + 1)
        episode = batch.episode.masked_fill(~batch.was_seen[rows, step], EMPTY)
        key = unit_keys(model.objective, latents.z_key[rows, step])
        self.bonus.remember(key, episode, batch.time + step)
        self.was_rewarded.logical_or_(batch.reward.amax() > batch.reward.amin())

    def after_step(self) -> None:
        """Move the averages towards what was learnt."""
        ema_update(self.averaged_bonus_head, self.bonus_head, self.tau)
        self.actor_critic.after_step()


def _follow_deviation(running: Tensor, values: Tensor, counts: Tensor) -> None:
    """Move a running deviation towards that of the values that count, (...) and bool (...)."""
    number = counts.sum().clamp_min(1)
    mean = values.where(counts, 0.0).sum() / number
    variance = (values - mean).square().where(counts, 0.0).sum() / number
    running.lerp_(variance.sqrt(), 0.01)
