"""A batch of windows, as replay hands it to the agent."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """B windows of H decisions; shapes use the letters of docs/shapes.md.

    Attributes:
        frames: single frames, uint8 (B, H + S, 3, height, width), where S is the stack: the frames of
            obs[t] are `frames[:, :S]`, those of obs[t + k] are `frames[:, k : k + S]`. Before an
            episode's start the first frame is repeated.
        proprio: float32 (B, H + 1, D), the task's own vectors at obs[t..t+H].
        previous_action: float32 (B, A), led to obs[t]; zeros at an episode's start.
        action: float32 (B, H, A), action[:, k] was taken at obs[t + k].
        reward: float32 (B, H), earned by action[:, k].
        terminated: bool (B, H), whether obs[t + k + 1] is terminal. A window may reach beyond the end of a
            terminated episode: there the last frame is repeated, actions and rewards are zero, and this stays
            True.
        episode: int64 (B,), which episode the window lies in.
        time: int64 (B,), decision index t of the window's first observation within its episode.
    """

    frames: Tensor
    proprio: Tensor
    previous_action: Tensor
    action: Tensor
    reward: Tensor
    terminated: Tensor
    episode: Tensor
    time: Tensor

    @property
    def horizon(self) -> int:
        """H, the number of decisions in a window."""
        return self.action.shape[1]

    @property
    def stack(self) -> int:
        """S, the frames in an observation."""
        return self.frames.shape[1] - self.horizon

    @property
    def key_positions(self) -> tuple[Tensor, Tensor]:
        """Episode and time of obs[t+1..t+H] of all windows, flattened, int64 (B * H,) each."""
        steps = torch.arange(1, self.horizon + 1, device=self.time.device)
        return self.episode.repeat_interleave(self.horizon), (self.time[:, None] + steps).flatten()

    @property
    def alive(self) -> Tensor:
        """Whether the episode goes on at obs[t + k], and action[:, k] was taken there: bool (B, H + 1)."""
        return torch.cat((torch.ones_like(self.terminated[:, :1]), ~self.terminated), dim=1)

    @property
    def is_beyond(self) -> Tensor:
        """Whether obs[t + k + 1] stands beyond the end of its episode, and was never seen: bool (B, H)."""
        return ~self.alive[:, :-1]

    @property
    def was_seen(self) -> Tensor:
        """Whether obs[t + k] is one of its episode: bool (B, H + 1), from True to False at most once."""
        return torch.cat((torch.ones_like(self.terminated[:, :1]), ~self.is_beyond), dim=1)

    def within_episodes(self, loss: Tensor) -> Tensor:
        """A loss, with zeros at decisions, (B, H), before which an episode was over; other shapes stay."""
        return loss if loss.shape != self.reward.shape else loss.where(self.alive[:, :-1], 0.0)

    def last_seen(self, rows: Tensor) -> Tensor:
        """Rows of obs[t..t+H], where those beyond the end of an episode are replaced by its last ones.

        For statistics over a batch, which a stand-in that is the same everywhere would spoil.

        Args:
            rows: (B, H + 1, D).
        """
        steps = torch.arange(rows.shape[1], device=rows.device)
        last = self.was_seen.sum(dim=1, keepdim=True) - 1
        return rows.take_along_dim(torch.minimum(steps, last)[..., None], dim=1)

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return Batch(**{name: value.to(device) for name, value in vars(self).items()})


@dataclass(frozen=True)
class Latents:
    """What the world model makes of a batch.

    Attributes:
        z: (B, H + 1, Z); z[:, 0] encodes an augmented obs[t], z[:, k] is rolled out from it by the
            dynamics with the recorded actions.
        z_key: (B, H + 1, Z); the momentum key encoder on another augmentation of obs[t + k]; no gradient.
        last_action: (B, H + 1, A); last_action[:, k] led to obs[t + k].
    """

    z: Tensor
    z_key: Tensor
    last_action: Tensor

    @property
    def state(self) -> Tensor:
        """Each z with the action that led to it, (B, H + 1, Z + A)."""
        return torch.cat((self.z, self.last_action), dim=-1)

    @property
    def state_key(self) -> Tensor:
        """Each z_key with the action that led to it, (B, H + 1, Z + A)."""
        return torch.cat((self.z_key, self.last_action), dim=-1)
