"""An agent that collects experience out of curiosity, too, and is evaluated without it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from agent.actor_critic import lambda_returns
from agent.agent import Agent
from agent.explorer import Explorer
from agent.planners.base import PlanningModel
from configs.curiosity import CuriosityOptions
from configs.schema import Config
from envs.spec import EnvSpec
from world_model.batch import Batch, Latents
from world_model.curiosity import Arrivals


def make_agent(env_spec: EnvSpec, config: Config, device: torch.device) -> Agent:
    """The agent of a configuration, curious or not."""
    kind = Agent if config.curiosity.bonus == "none" else CuriousAgent
    return kind(env_spec, config, device)


def weight_after(options: CuriosityOptions, frames: int) -> float:
    """Weight of the bonus after so many frames."""
    share = min(1.0, frames / options.frames)
    return options.weight + (options.final_weight - options.weight) * share


class CuriousAgent(Agent):
    """The agent, and beside it an explorer which learns from the same batches.

    The explorer plans and acts where experience is collected, the agent where it is evaluated: each has
    critics and a policy of its own, and they share the world model.
    """

    def __init__(self, env_spec: EnvSpec, config: Config, device: torch.device) -> None:
        """As `Agent`, whose parameters are drawn first."""
        super().__init__(env_spec, config, device)
        self.explorer = Explorer(env_spec, config, self.model).to(device)
        self._weight = 0.0  # of the bonus, as the device has it, too
        critics, policy = self.explorer.actor_critic.critics, self.explorer.actor_critic.policy
        learning = [*self.explorer.bonus_head.parameters(), *critics.parameters()]
        self.optimizers |= {
            "explorer": self.make_optimizer([*learning, *self.explorer.bonus.parameters()]),
            "explorer_policy": self.make_optimizer(policy.parameters()),
        }

    @property
    def behaviour(self) -> PlanningModel:
        """The explorer's view of the world, while its bonus weighs anything."""
        return ExplorationModel(self) if self._weight > 0 else self

    def explores(self, episode: int) -> bool:
        """Whether the explorer collects this episode; once rewards were seen, the agent has its share.

        Each learns from the episodes of both; one's own show where one's own values are wrong.
        """
        share = self.config.curiosity.own_share if bool(self.explorer.was_rewarded) else 0.0
        return int((episode + 1) * share) == int(episode * share)

    def advance(self, frames: int) -> None:
        """Set the weight of the bonus."""
        self._weight = weight_after(self.config.curiosity, frames)
        self.explorer.weight.fill_(self._weight)

    def update(self, batch: Batch, generator: torch.Generator, *, imagine: bool = True) -> dict[str, Tensor]:
        """As `Agent.update`; in mode explore, rewards are not looked at."""
        return super().update(self._visible(batch), generator, imagine=imagine)

    def diagnose(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """As `Agent.diagnose`, and how novel the batch is."""
        metrics = super().diagnose(self._visible(batch), generator)
        with torch.no_grad():
            latents = self.model.encode(batch, generator)
            arrivals = Arrivals.of(batch, latents, self.model.objective)
            bonus = self.explorer.bonus(arrivals)[~batch.is_beyond.flatten()]
            inside = {
                f"curiosity/{name}": value for name, value in self.explorer.bonus.metrics(arrivals).items()
            }
        return (
            metrics
            | inside
            | {
                "curiosity/bonus": bonus.mean(),
                "curiosity/deviation": self.explorer.normaliser.deviation,
                "curiosity/weight": self.explorer.weight.clone(),
                "curiosity/task_deviation": self.explorer.task_deviation.clone(),
                "curiosity/bonus_deviation": self.explorer.bonus_deviation.clone(),
            }
        )

    def _visible(self, batch: Batch) -> Batch:
        if self.config.mode == "task":
            return batch
        return replace(batch, reward=torch.zeros_like(batch.reward))

    def learn(
        self, batch: Batch, latents: Latents, generator: torch.Generator, *, imagine: bool
    ) -> dict[str, Tensor]:
        """As `Agent.learn`, then the same for the explorer."""
        metrics = super().learn(batch, latents, generator, imagine=imagine)
        metrics |= self._learn_to_explore(batch, latents, generator)
        self.explorer.after_step()
        return metrics

    def _learn_to_explore(
        self, batch: Batch, latents: Latents, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Bonus, the head that expects it, critics and policy."""
        explorer = self.explorer
        explorer.remember(batch, latents, self.model)  # first, so that memory is never empty
        arrivals = Arrivals.of(batch, latents, self.model.objective)
        bonus = explorer.normalised_bonus(batch, arrivals)
        target = self._target(batch, latents, bonus, generator)
        alive, seen = batch.alive, latents.state_key
        imagined = latents.state.detach()
        losses = {
            "curiosity": explorer.model_loss(batch, latents, bonus, arrivals),
            "curiosity_value": explorer.actor_critic.critic_loss(imagined[:, :-1], batch.action, target),
        }
        reduced = {name: self.model.reduce(batch.within_episodes(loss)) for name, loss in losses.items()}
        self._descend(torch.stack(list(reduced.values())).sum(), "explorer")
        self._seek(torch.cat((imagined, seen)), torch.cat((alive, alive)))
        for _ in range(self.config.curiosity.extra_updates):
            loss = explorer.actor_critic.critic_loss(seen[:, :-1], batch.action, target)
            self._descend(self.model.reduce(batch.within_episodes(loss)), "explorer")
            self._seek(seen, alive)
        return {f"loss/{name}": loss.detach() for name, loss in reduced.items()}

    @torch.no_grad()
    def _target(self, batch: Batch, latents: Latents, bonus: Tensor, generator: torch.Generator) -> Tensor:
        """Lambda returns of the bonus, (B, H)."""
        value = self.explorer.target_value(latents.state_key[:, 1:], generator)
        discount = self.discount * (~batch.terminated).float()
        return lambda_returns(bonus, discount, value, self.config.actor_critic.trace)

    def _seek(self, state: Tensor, alive: Tensor) -> None:
        """Move the exploring policy towards more bonus and reward at states (..., Z + A)."""
        self._descend(self.explorer.policy_loss(state, alive, self.actor_critic).mean(), "explorer_policy")

    def state_dict(self) -> dict[str, Any]:
        """As `Agent.state_dict`, with the explorer."""
        return super().state_dict() | {"explorer": self.explorer.state_dict()}

    def load_state_dict(self, state: dict[str, Any], *, optimizers: bool = True) -> None:
        """As `Agent.load_state_dict`, with the explorer."""
        super().load_state_dict(state, optimizers=optimizers)
        self.explorer.load_state_dict(state["explorer"])


class ExplorationModel:
    """The world as the explorer plans in it: rewards and values of the task and of the bonus together.

    Both are in units of the running deviation of their Q-values, as the exploring policy sees them, so that
    the weight means the same whatever the rewards' scale.
    """

    def __init__(self, agent: CuriousAgent) -> None:
        """A view of the agent, which may go on learning."""
        self._agent = agent
        self.discount = agent.discount

    def step(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor | float]:
        """As `Agent.step`, with the weighted sum of reward and expected bonus."""
        agent, explorer = self._agent, self._agent.explorer
        following, reward, going_on = agent.step(state, action)
        latent = following[..., : -action.shape[-1]]
        bonus = explorer.expected_bonus(state, action, latent, agent.model.objective)
        return following, explorer.together(reward, bonus), going_on

    def value(self, state: Tensor) -> Tensor:
        """What task and bonus are worth if the exploring policy acts next."""
        agent, explorer, action = self._agent, self._agent.explorer, self.act(state)
        return explorer.together(
            agent.actor_critic.target_q(state, action), explorer.actor_critic.target_q(state, action)
        )

    def act(self, state: Tensor) -> Tensor:
        """The exploring policy's action."""
        return self._agent.explorer.actor_critic.act(state)
