"""One gradient step after another, and everything that is needed to go on from where they stopped."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from configs.pretrain import PretrainConfig
from world_model.encoder import perceived
from world_model.metrics import alignment, rank_me, uniformity
from world_model.pretrain.gradients import accumulate
from world_model.pretrain.method import Method
from world_model.pretrain.optimizers import make_optimizer
from world_model.pretrain.parallel import Group
from world_model.pretrain.samples import Pairs, Rows, Samples, Views
from world_model.pretrain.schedule import learning_rate_factor, momentum_step


class Trainer:
    """A method that learns.

    Attributes:
        method: networks and losses.
        update: gradient steps that are done.
    """

    def __init__(self, method: Method, config: PretrainConfig, group: Group) -> None:
        """Build the optimiser; all processes must hold the same parameters."""
        self.method, self.update = method, 0
        self._config, self._group = config, group
        self._optimizer = make_optimizer(method, config.optimizer, config.learning_rate)

    @property
    def progress(self) -> float:
        """Share of the updates that are done."""
        return self.update / self._config.updates

    def step(self, samples: Samples, views: Views) -> tuple[dict[str, Tensor], Rows]:
        """One gradient step.

        Args:
            samples: this process's rows of the batch.
            views: augments them.

        Returns:
            Losses and the gradient's norm, detached and 0-d, and the rows of all processes.
        """
        options, method = self._config.optimizer, self.method
        losses, rows = accumulate(method, samples, views, self._group, chunk=self._config.batch.chunk)
        gradients = [each for each in method.parameters() if each.grad is not None]
        norm = nn.utils.clip_grad_norm_(gradients, options.gradient_norm, foreach=True)
        middle = (self.update + 0.5) / self._config.updates  # no step of size zero at either end
        factor = learning_rate_factor(middle, options.warmup, options.schedule)
        for group in self._optimizer.param_groups:
            group["lr"] = self._config.learning_rate * factor
        self._optimizer.step()
        pairs = self._config.pairs
        method.after_step(rows, momentum_step(self.progress, pairs.key_tau, pairs.key_schedule))
        self.update += 1
        return {f"loss/{name}": loss for name, loss in losses.items()} | {"train/gradient_norm": norm}, rows

    @torch.no_grad()
    def diagnose(self, samples: Samples, rows: Rows) -> dict[str, Tensor]:
        """What the method compares, and how much of the latent space is used: 0-d tensors."""
        found = self.method.metrics(rows)
        pair = self.method.compared(rows)
        if pair is not None:
            found |= {"alignment": alignment(*pair), "uniformity": uniformity(pair[1])}
        found["rank_me"] = self.rank(samples)
        return {f"train/{name}": value for name, value in found.items()}

    @torch.no_grad()
    def rank(self, samples: Samples) -> Tensor:
        """RankMe of the latents of a batch, 0-d."""
        return rank_me(self.latents(samples).float())

    @torch.no_grad()
    def latents(self, samples: Samples) -> Tensor:
        """What the encoder makes of observations as they were recorded, (B, Z)."""
        if isinstance(samples, Pairs):
            return self.method.encoder(samples.pixels, perceived(samples.proprio))
        batch = samples.batch
        return self.method.encoder(
            batch.frames[:, : batch.stack].flatten(1, 2), perceived(batch.proprio[:, 0])
        )

    def state_dict(self) -> dict[str, Any]:
        """Networks, averages, queues, optimiser and the number of updates."""
        return {
            "update": self.update,
            "method": self.method.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.update = state["update"]
        self.method.load_state_dict(state["method"])
        self._optimizer.load_state_dict(state["optimizer"])
