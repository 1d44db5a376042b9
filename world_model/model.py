"""The world model: encoder with its momentum copy, dynamics, reward and continuation, objective."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from configs.schema import ObsName
from configs.world_model import WorldModelOptions
from envs.spec import EnvSpec
from world_model.augment import draw_shifts, perturb, shift
from world_model.batch import Batch, Latents
from world_model.encoder import Encoder, perceived
from world_model.heads import Dynamics, TwoHot
from world_model.layers import mlp
from world_model.momentum import ema_update
from world_model.objectives.registry import OBJECTIVES


class WorldModel(nn.Module):
    """Latent model of a task, learnt from windows of observations, actions and rewards.

    A *state* is a latent with the action that led to it, (..., Z + A). Frames tell the mean velocity over the
    last decision; what its action did to the velocity at its end is hardly in them. Objectives see latents
    alone, so that contrast cannot find a positive by its actions.
    """

    step_weights: Tensor

    def __init__(self, env_spec: EnvSpec, options: WorldModelOptions, obs: ObsName) -> None:
        """Draw the weights; the key encoder starts as a copy of the encoder.

        Args:
            env_spec: the task.
            options: of model and objective.
            obs: what the encoder looks at.
        """
        super().__init__()
        self.options = options
        state_dim, action_dim = options.latent_dim + env_spec.action_dim, env_spec.action_dim
        self.encoder = Encoder(env_spec, options, obs)
        self.key_encoder = copy.deepcopy(self.encoder).requires_grad_(False)
        self.dynamics = Dynamics(action_dim, options)
        self.reward = mlp(state_dim + action_dim, options.hidden_dim, options.bins, zero_output=True)
        self.continuation = mlp(state_dim, options.hidden_dim, 1) if env_spec.can_terminate else None
        self.two_hot = TwoHot(options.bins, options.symlog_limit)
        # what is imagined with: averages over updates, far less noisy than the last iterate
        heads = {"dynamics": self.dynamics, "reward": self.reward}
        if self.continuation is not None:
            heads["continuation"] = self.continuation
        self.averaged = nn.ModuleDict(copy.deepcopy(heads)).requires_grad_(False)
        self.objective = OBJECTIVES[options.objective](env_spec, options)
        weights = options.rho ** torch.arange(options.horizon)
        self.register_buffer("step_weights", weights / weights.sum(), persistent=False)

    def encode(self, batch: Batch, generator: torch.Generator) -> Latents:
        """Encode a batch under two augmentations and roll the dynamics out from its first observation.

        Args:
            batch: B windows of H decisions.
            generator: draws the augmentations, on the batch's device.
        """
        return self.unroll(batch, *self.views(batch, generator))

    def views(
        self, batch: Batch, generator: torch.Generator
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Two augmentations of a batch: the query and the keys of `unroll`."""
        frames, proprio = self.augment(batch.frames[:, : batch.stack], batch.proprio[:, 0], generator)
        keys = self.augment(batch.frames, batch.proprio, generator)
        return (frames.flatten(1, 2), proprio), keys

    def unroll(self, batch: Batch, query: tuple[Tensor, Tensor], keys: tuple[Tensor, Tensor]) -> Latents:
        """Encode what was augmented, and roll the dynamics out.

        Args:
            batch: B windows of H decisions.
            query: obs[t], stacked frames (B, 3 * S, h, w) and perceived vectors (B, D).
            keys: obs[t..t+H], single frames (B, H + S, 3, h, w) and perceived vectors (B, H + 1, D).
        """
        frames, proprio = keys
        # (B, H + S, 3, h, w) -> (B, H + 1, 3 * S, h, w): stacks are overlapping views of the frames
        stacks = frames.unfold(1, batch.stack, 1).movedim(-1, 2).flatten(2, 3)
        with torch.no_grad():
            z_key = self.key_encoder(stacks.flatten(0, 1), proprio.flatten(0, 1))
        z_key = z_key.unflatten(0, stacks.shape[:2])
        last_action = torch.cat((batch.previous_action[:, None], batch.action), dim=1)
        z = [self.encoder(*query)]
        for k in range(batch.horizon):
            state = torch.cat((z[-1], last_action[:, k]), dim=-1)
            z.append(self.dynamics(state, batch.action[:, k]))
        return Latents(z=torch.stack(z, dim=1), z_key=z_key, last_action=last_action)

    def augment(self, frames: Tensor, proprio: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """What the encoder is to look at, under one random draw; the rest stays as it is.

        Args:
            frames: uint8 (B, ..., 3, h, w); those of a row are shifted alike.
            proprio: the task's own vectors, float32 (B, ..., D).
            generator: on their device.

        Returns:
            Both in their shapes, the vectors as they are perceived.
        """
        options = self.options.encoder
        if self.encoder.pixels is not None:
            frames = shift(frames, draw_shifts(len(frames), options.shift_padding, generator))
        if self.encoder.proprio is not None:
            noise, dropout = options.proprio_noise, options.proprio_dropout
            proprio = perturb(perceived(proprio), noise, dropout, generator)
        return frames, proprio

    def losses(self, batch: Batch, latents: Latents) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Unreduced losses, (B,) or (B, H), and their weights under the same names."""
        losses = self.objective(batch, latents)
        weights = dict(self.objective.weights)
        state = latents.state
        reward_logits = self.reward(torch.cat((state[:, :-1], batch.action), dim=-1))
        losses["reward"] = self.two_hot.loss(reward_logits, batch.reward)
        weights["reward"] = self.options.reward_weight
        if self.continuation is not None:
            logits = self.continuation(state[:, 1:]).squeeze(-1).float()
            target = (~batch.terminated).float()
            losses["continuation"] = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
            weights["continuation"] = self.options.continuation_weight
        return losses, weights

    def reduce(self, loss: Tensor) -> Tensor:
        """Mean over rows; over the steps of a window weighted by rho^k, weights summing to one."""
        return self.reduce_rows(loss).mean()

    def reduce_rows(self, loss: Tensor) -> Tensor:
        """Mean over the steps of each window, weighted by rho^k, (B, H) -> (B,); (B,) stays."""
        # no matrix product, which autocast would round to bfloat16
        return (loss * self.step_weights).sum(dim=1) if loss.ndim == 2 else loss

    def predict_reward(self, state: Tensor, action: Tensor) -> Tensor:
        """Expected reward, (..., Z + A), (..., A) -> (...)."""
        return self.two_hot.decode(self.reward(torch.cat((state, action), dim=-1)))

    def expect(self, state: Tensor, action: Tensor) -> Tensor:
        """Latent one decision later by the averaged dynamics, (..., Z + A), (..., A) -> (..., Z)."""
        latent: Tensor = self.averaged["dynamics"](state, action)
        return latent

    def imagine(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor | float]:
        """One decision by the averaged networks, for planning: (..., Z + A), (..., A).

        Returns:
            Next state (..., Z + A), reward (...), and the probability that the episode goes on (...), which
            is 1 for tasks that cannot terminate.
        """
        next_state = torch.cat((self.expect(state, action), action), dim=-1)
        reward = self.two_hot.decode(self.averaged["reward"](torch.cat((state, action), dim=-1)))
        if self.continuation is None:
            return next_state, reward, 1.0
        return next_state, reward, self.averaged["continuation"](next_state).squeeze(-1).float().sigmoid()

    def after_step(self) -> None:
        """Move the key encoder, the averaged heads and the objective's averages towards what was learnt."""
        ema_update(self.key_encoder, self.encoder, self.options.key_tau)
        for name, average in self.averaged.items():
            ema_update(average, getattr(self, name), self.options.key_tau)
        self.objective.after_step()
