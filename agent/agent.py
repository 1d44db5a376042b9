"""The agent: acts by planning in its world model, learns from batches, and knows its whole state."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from agent.actor_critic import ActorCritic, discount_of, lambda_returns
from agent.averaging import SteadyAverage
from agent.planners.base import PlanningModel
from configs.schema import Config
from envs.spec import EnvSpec
from world_model.batch import Batch, Latents
from world_model.encoder import perceived
from world_model.metrics import rank_me
from world_model.model import WorldModel


class Agent:
    """World model, actor-critic and their optimisers.

    The agent receives batches and observations, never a buffer or an environment; it returns metrics
    and actions, and writes nothing.
    """

    def __init__(self, env_spec: EnvSpec, config: Config, device: torch.device):
        """Build networks and optimisers; parameters come from torch's global generator."""
        self.config = config
        self.env_spec = env_spec
        self.device = device
        self.discount = discount_of(config.actor_critic, env_spec)
        self.model = WorldModel(env_spec, config.world_model, config.obs).to(device)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing from its types
        self.actor_critic = ActorCritic(env_spec.action_dim, config.actor_critic, config.world_model).to(
            device
        )
        acting = {
            "encoder": self.model.key_encoder,
            "model": self.model.averaged,
            "critics": self.actor_critic.target_critics,
            "policy": self.actor_critic.averaged_policy,
        }
        self.steady = SteadyAverage(acting, config.evaluation.average_tau).to(device)
        training = config.training
        encoder = list(self.model.encoder.parameters())
        others = [p for p in self.model.parameters() if p.requires_grad and all(p is not q for q in encoder)]
        groups = [
            {"params": encoder, "lr": training.encoder_learning_rate},
            {"params": others, "lr": training.learning_rate},
        ]
        parameters: dict[str, Any] = {
            "model": groups,
            "critics": self.actor_critic.critics.parameters(),
            "policy": self.actor_critic.policy.parameters(),
        }
        self.uses_cuda_graph = training.cuda_graph and device.type == "cuda"
        self.optimizers = {name: self.make_optimizer(group) for name, group in parameters.items()}

    def make_optimizer(self, parameters: Any) -> torch.optim.Adam:
        """Adam as configured, on parameters or groups of them."""
        learning_rate = self.config.training.learning_rate
        return torch.optim.Adam(parameters, lr=learning_rate, fused=True, capturable=self.uses_cuda_graph)

    @property
    def behaviour(self) -> PlanningModel:
        """The world as it is planned in where experience is collected."""
        return self

    def explores(self, episode: int) -> bool:
        """Whether `behaviour` acts in a training episode, by its number; if not, the agent does its task."""
        return True

    def advance(self, frames: int) -> None:
        """Follow schedules of the behaviour that are counted in frames; there are none here."""

    # What the planner needs to know of the world (`PlanningModel`), all of it by moving averages.

    def encode(self, pixels: Tensor, proprio: Tensor, last_action: Tensor) -> Tensor:
        """States by the momentum key encoder, which looks at pixels, vectors or both.

        Args:
            pixels: stacked frames, uint8 (E, 3 * S, H, W).
            proprio: the task's own vectors, float32 (E, D).
            last_action: float32 (E, A).

        Returns:
            (E, Z + A).
        """
        z = self.model.key_encoder(pixels, perceived(proprio))
        return torch.cat((z, last_action), dim=-1)

    def step(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor | float]:
        """Next state, reward and probability of going on."""
        return self.model.imagine(state, action)

    def value(self, state: Tensor) -> Tensor:
        """Value of following the policy from a state."""
        return self.actor_critic.value(state)

    def act(self, state: Tensor) -> Tensor:
        """The policy's action."""
        return self.actor_critic.act(state)

    # Learning.

    @property
    def learns_encoder(self) -> bool:
        """Whether updates change the encoder; one that is frozen costs no gradient."""
        return all(parameter.requires_grad for parameter in self.model.encoder.parameters())

    @learns_encoder.setter
    def learns_encoder(self, learns: bool) -> None:
        self.model.encoder.requires_grad_(learns)
        self.model.encoder.zero_grad(set_to_none=True)  # the optimiser would go on with the last gradient

    def update(self, batch: Batch, generator: torch.Generator, *, imagine: bool = True) -> dict[str, Tensor]:
        """One gradient step of everything that learns.

        The slow average that is evaluated does not follow: `agent.update.make_update` sees to it.

        Args:
            batch: windows on the agent's device.
            generator: draws augmentations, target noise and imagined actions, on that device.
            imagine: let the configured share of further critic updates learn from imagined returns.

        Returns:
            Losses and diagnostics as detached 0-d tensors.
        """
        latents = self.model.encode(batch, generator)
        metrics = self.learn(batch, latents, generator, imagine=imagine)
        self.model.after_step()
        self.actor_critic.after_step()
        return metrics

    def learn(
        self, batch: Batch, latents: Latents, generator: torch.Generator, *, imagine: bool
    ) -> dict[str, Tensor]:
        """The gradient steps of an update, on a batch that is encoded; arguments as of `update`."""
        options = self.config.actor_critic
        target = self.value_target(batch, latents, generator)
        metrics = self._update_model(batch, latents, target)
        state = torch.cat((latents.state.detach(), latents.state_key), dim=0)
        alive = batch.alive
        recorded = latents.state_key[:, :-1], batch.action, alive[:, :-1]
        metrics |= self._update_policy(state, torch.cat((alive, alive)), recorded)
        imagined = options.imagined_updates if imagine else 0
        for _ in range(options.extra_updates - imagined):
            self._update_critics(latents.state_key[:, :-1], batch.action, target, alive[:, :-1])
            self._update_policy(latents.state_key, alive, recorded)
        seen, alive = latents.state_key.flatten(0, 1), alive.flatten()
        for _ in range(imagined):
            self._update_critics(seen, *self.imagined_returns(seen, generator), alive)
            self._update_policy(seen, alive, recorded)
        return metrics

    @torch.no_grad()
    def value_target(self, batch: Batch, latents: Latents, generator: torch.Generator) -> Tensor:
        """Lambda returns of the window, bootstrapped from the momentum latents, (B, H)."""
        value = self.actor_critic.target_value(latents.state_key[:, 1:], generator)
        discount = self.discount * (~batch.terminated).float()
        return lambda_returns(batch.reward, discount, value, self.config.actor_critic.trace)

    @torch.no_grad()
    def imagined_returns(self, state: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Actions near the policy's, and what the model expects of them.

        The returns of recorded windows say what the one action taken led to; these say what others would.
        The policy decides all but the first action, and the averaged model answers.

        Args:
            state: (N, Z + A), of recorded observations.
            generator: draws the deviations of the first action, on the agent's device.

        Returns:
            First actions (N, A), and lambda returns (N,) over `imagination_horizon` decisions, bootstrapped
            from the lower of two target critics at every state on the way.

        Source: lambda returns of imagined trajectories, Dreamer (arXiv:1912.01603, eq. 6), here as targets
        for actions that were not taken.
        """
        options = self.config.actor_critic
        action = self.actor_critic.policy(state).tanh()
        noise = torch.randn(action.shape, generator=generator, device=state.device, dtype=action.dtype)
        first = action = (action + options.imagination_std * noise).clamp(-1, 1)
        rewards, discounts, values = [], [], []
        for _ in range(options.imagination_horizon):
            state, reward, going_on = self.step(state, action)
            action = self.actor_critic.policy(state).tanh()
            rewards.append(reward)
            discounts.append(self.discount * going_on * torch.ones_like(reward))
            values.append(self.actor_critic.least_target(state, action, generator))
        reward, discount, value = (torch.stack(each, dim=1) for each in (rewards, discounts, values))
        return first, lambda_returns(reward, discount, value, options.imagination_trace)[:, 0]

    def _update_model(self, batch: Batch, latents: Latents, target: Tensor) -> dict[str, Tensor]:
        losses, weights = self.model.losses(batch, latents)
        losses["value"] = self.actor_critic.critic_loss(latents.state[:, :-1], batch.action, target)
        weights["value"] = self.config.actor_critic.value_weight
        if losses.keys() != weights.keys():
            raise AssertionError(f"losses {sorted(losses)} but weights {sorted(weights)}")
        reduced = {name: self.model.reduce(batch.within_episodes(loss)) for name, loss in losses.items()}
        total = torch.stack([weights[name] * loss for name, loss in reduced.items()]).sum()
        norms = self._descend(total, "model", "critics")
        return {f"loss/{name}": loss.detach() for name, loss in reduced.items()} | norms

    def _update_critics(self, state: Tensor, action: Tensor, target: Tensor, alive: Tensor) -> None:
        loss = self.actor_critic.critic_loss(state, action, target).where(alive, 0.0)
        self._descend(self.model.reduce(loss) * self.config.actor_critic.value_weight, "critics")

    def _update_policy(
        self, state: Tensor, alive: Tensor, recorded: tuple[Tensor, Tensor, Tensor]
    ) -> dict[str, Tensor]:
        """Uphill on Q at some states, and towards the actions that were recorded at others.

        Args:
            state: (..., Z + A).
            alive: which of them count, bool (...).
            recorded: states (B, H, Z + A), actions (B, H, A), and which of them were taken, bool (B, H).
        """
        losses = {"policy": self.actor_critic.policy_loss(state, alive).mean()}
        total, weight = losses["policy"], self.config.actor_critic.planner_weight
        if weight > 0:
            *where, taken = recorded
            losses["imitation"] = self.actor_critic.imitation_loss(*where).where(taken, 0.0).mean()
            total = total + weight * losses["imitation"]
        norms = self._descend(total, "policy")
        metrics = {f"loss/{name}": loss.detach() for name, loss in losses.items()}
        return metrics | {"train/q_scale": self.actor_critic.scale.clone()} | norms

    def _descend(self, loss: Tensor, *names: str) -> dict[str, Tensor]:
        """Step the named optimisers; their parameters alone receive gradient, but for a frozen encoder's."""
        parameters = {
            name: [
                p for group in self.optimizers[name].param_groups for p in group["params"] if p.requires_grad
            ]
            for name in names
        }
        leaves = [p for group in parameters.values() for p in group]
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
        for parameter, gradient in zip(leaves, gradients, strict=True):
            if gradient is not None and gradient.stride() != parameter.stride():
                # fused Adam walks both in memory order: on a CPU it would pair the wrong elements
                gradient = torch.empty_like(parameter).copy_(gradient)
            parameter.grad = gradient
        norms = {}
        for name in names:
            norm = nn.utils.clip_grad_norm_(
                parameters[name], self.config.training.gradient_norm, foreach=True
            )
            norms[f"train/gradient_norm_{name}"] = norm
            self.optimizers[name].step()
        return norms

    @torch.no_grad()
    def diagnose(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Why it learns or does not: retrieval, reward and value errors, spread of the latents."""
        latents = self.model.encode(batch, generator)
        target = self.value_target(batch, latents, generator)
        state = latents.state
        alive = batch.alive[:, :-1]  # what stands beyond the end of an episode says nothing
        last = alive.sum(dim=1) - 1  # of the decisions that were taken
        rows = torch.arange(len(last), device=last.device)
        reward_error = (
            self.model.predict_reward(state[rows, last], batch.action[rows, last]) - batch.reward[rows, last]
        )
        q = self.actor_critic.q_values(state[:, 0], batch.action[:, 0]).mean(dim=0)
        retrieval = self.model.objective.metrics(batch, latents)
        return {f"train/{name}": value for name, value in retrieval.items()} | {
            "train/reward_error_at_horizon": reward_error.abs().mean(),
            "train/reward_mean": batch.reward[alive].mean(),
            "train/rank_me": rank_me(latents.z_key[batch.was_seen].float()),
            "train/q_mean": q.mean(),
            "train/q_target_mean": target[:, 0].mean(),
            "train/values_clamped": self.actor_critic.two_hot.is_clamped(target)[alive].float().mean(),
            "train/policy_data_gap": (self.act(state[:, 0]) - batch.action[:, 0]).abs().mean(),
        }

    def state_dict(self) -> dict[str, Any]:
        """Networks, their averages of both kinds, and optimisers."""
        return {
            "model": self.model.state_dict(),
            "actor_critic": self.actor_critic.state_dict(),
            "steady": self.steady.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
        }

    def load_state_dict(self, state: dict[str, Any], *, optimizers: bool = True) -> None:
        """Restore what `state_dict` returned; optimisers may be left out for acting only."""
        self.model.load_state_dict(state["model"])
        self.actor_critic.load_state_dict(state["actor_critic"])
        self.steady.load_state_dict(state["steady"])
        if optimizers:
            for name, optimizer in self.optimizers.items():
                optimizer.load_state_dict(state["optimizers"][name])
                for group in optimizer.param_groups:  # a fact of this machine, not of the saved run
                    group["capturable"] = self.uses_cuda_graph
