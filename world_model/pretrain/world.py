"""Methods that are the agent's own objectives: latents rolled out by the dynamics with recorded actions."""

from __future__ import annotations

from abc import abstractmethod
from typing import cast

import torch
from torch import Tensor

from configs.schema import ObsName
from configs.world_model import WorldModelOptions
from envs.spec import EnvSpec
from world_model.batch import Batch, Latents
from world_model.encoder import perceived
from world_model.layers import mlp
from world_model.losses import byol, standardised
from world_model.model import WorldModel
from world_model.objectives.contrastive import Contrastive
from world_model.pretrain.method import Method
from world_model.pretrain.samples import Rows, Samples, Views, Windows


class WorldMethod(Method):
    """An objective of the agent, without rewards and values, and without the consistency that serves them.

    Imagined latents have to be trusted by nobody here, and without the others consistency pulls all latents
    together (`benchmarks/notes.md`, item 54).
    """

    def __init__(self, env_spec: EnvSpec, options: WorldModelOptions, obs: ObsName) -> None:
        """Draw encoder, dynamics and objective."""
        super().__init__()
        self.world_model = WorldModel(env_spec, options.model_copy(update={"consistency_weight": 0.0}), obs)
        for unused in (self.world_model.reward, self.world_model.continuation):
            if unused is not None:
                unused.requires_grad_(False)
        self.encoder = self.world_model.encoder

    def latents(self, windows: Windows, views: Views) -> Latents:
        """Encode windows under two augmentations, and roll out the dynamics."""
        batch, row = windows.batch, windows.row
        query, keys = batch.frames[:, : batch.stack].flatten(1, 2), batch.frames.flatten(1, 2)
        vectors = perceived(batch.proprio)
        seen = vectors[:, 0], vectors
        if self.encoder.pixels is not None:
            query, keys = views.images(query, row, 0), views.images(keys, row, 1)
        if self.encoder.proprio is not None:
            seen = views.vectors(vectors[:, 0], row, 0), views.vectors(vectors, row, 1)
        return self.world_model.unroll(batch, (query, seen[0]), (keys.unflatten(1, (-1, 3)), seen[1]))

    @torch.no_grad()
    def after_step(self, rows: Rows, momentum: float) -> None:
        """Move the agent's own averages, by its own steps."""
        self.world_model.after_step()

    def embed(self, samples: Samples, views: Views) -> Rows:
        """See the base."""
        assert isinstance(samples, Windows)
        return self.embed_latents(samples.batch, self.latents(samples, views))

    @abstractmethod
    def embed_latents(self, batch: Batch, latents: Latents) -> Rows:
        """What the losses need of each row."""


class RowWise(WorldMethod):
    """An objective that looks at each window by itself: reconstruction, supervised."""

    def embed_latents(self, batch: Batch, latents: Latents) -> Rows:
        """Each loss, (B,), and queries and keys at the horizon, (B, Z) each, without gradient."""
        model = self.world_model
        found = model.objective(batch, latents)
        weights = model.objective.weights
        rows = {
            f"loss/{name}": weights[name] * model.reduce_rows(batch.within_episodes(loss))
            for name, loss in found.items()
            if weights[name]
        }
        return rows | {"query": latents.z[:, -1].detach(), "key": latents.z_key[:, -1]}

    def losses(self, rows: Rows) -> dict[str, Tensor]:
        """Means of what each row costs."""
        return {
            name.removeprefix("loss/"): row.mean() for name, row in rows.items() if name.startswith("loss/")
        }

    def compared(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Imagined and seen latents at the horizon."""
        return rows["query"], rows["key"]


class Predictive(WorldMethod):
    """Imagined futures near the momentum keys of what was seen, and nothing to keep apart.

    Rewards and values keep the agent's own consistency from collapse; here nothing would, and all latents
    become one within 100 updates. So a head predicts keys that are standardised over the batch of all
    processes, as in `world_model.pretrain.pairs.BYOL`.

    Source: SPR, arXiv:2007.05929, section 2.2; the standardised keys are not of the paper.
    """

    def __init__(self, env_spec: EnvSpec, options: WorldModelOptions, obs: ObsName) -> None:
        """Draw a predictor, too."""
        super().__init__(env_spec, options, obs)
        self.predictor = mlp(options.latent_dim, options.hidden_dim, options.latent_dim)

    def embed_latents(self, batch: Batch, latents: Latents) -> Rows:
        """Predictions and keys of each decision, (B, H, Z) each, and which of them were seen."""
        seen = batch.was_seen[:, 1:]
        return {"query": self.predictor(latents.z[:, 1:]), "key": latents.z_key[:, 1:], "seen": seen}

    def losses(self, rows: Rows) -> dict[str, Tensor]:
        """Loss `bootstrap`."""
        query, key, seen = rows["query"], rows["key"], rows["seen"]
        loss = byol(query.flatten(0, 1), standardised(key.flatten(0, 1))).unflatten(0, seen.shape)
        return {"bootstrap": self.world_model.reduce(loss.where(seen, 0.0))}

    def compared(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Predictions and standardised keys at the horizon."""
        return rows["query"][:, -1], standardised(rows["key"][:, -1])


class Temporal(WorldMethod):
    """The agent's dynamics term: imagined futures against the keys of all windows."""

    def embed_latents(self, batch: Batch, latents: Latents) -> Rows:
        """Projections of each decision, (B, H, P); where keys stand, and whether beyond an end, (B, H)."""
        query, key = self.world_model.objective.compared(latents)
        episode, time = (each.unflatten(0, (-1, batch.horizon)) for each in batch.key_positions)
        return {
            "query": query[:, 1:],
            "key": key[:, 1:],
            "episode": episode,
            "time": time,
            "beyond": batch.is_beyond,
        }

    def losses(self, rows: Rows) -> dict[str, Tensor]:
        """Loss `temporal`."""
        model, beyond = self.world_model, rows["beyond"]
        objective = cast(Contrastive, model.objective)
        assert objective.temporal is not None
        positions = (rows[name].flatten() for name in ("episode", "time", "beyond"))
        loss = objective.temporal.compare(rows["query"], rows["key"], *positions)
        return {"temporal": model.options.temporal_weight * model.reduce(loss.where(~beyond, 0.0))}

    def compared(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Projections one decision ahead."""
        return rows["query"][:, 0], rows["key"][:, 0]
