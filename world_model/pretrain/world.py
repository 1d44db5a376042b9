"""Methods that are the agent's own objectives: latents rolled out by the dynamics with recorded actions."""

from __future__ import annotations

from abc import abstractmethod
from typing import cast

import torch
from torch import Tensor

from configs.schema import ObsName, WorldModelOptions
from envs.spec import EnvSpec
from world_model.batch import Batch, Latents
from world_model.encoder import perceived
from world_model.model import WorldModel
from world_model.objectives.contrastive import Contrastive
from world_model.pretrain.method import Method
from world_model.pretrain.samples import Rows, Samples, Views, Windows


class WorldMethod(Method):
    """An objective of the agent, without rewards and values."""

    def __init__(self, env_spec: EnvSpec, options: WorldModelOptions, obs: ObsName) -> None:
        """Draw encoder, dynamics and objective."""
        super().__init__()
        self.world_model = WorldModel(env_spec, options, obs)
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
    """An objective that looks at each window by itself: predictive, reconstruction, supervised."""

    def embed_latents(self, batch: Batch, latents: Latents) -> Rows:
        """Each loss, (B,), and queries and keys at the horizon, (B, Z) each, without gradient."""
        model = self.world_model
        found = model.objective(batch, latents)
        weights = model.objective.weights
        rows = {
            f"loss/{name}": weights[name] * model.reduce_rows(batch.within_episodes(loss))
            for name, loss in found.items()
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


class Temporal(WorldMethod):
    """The agent's dynamics term: imagined futures against the keys of all windows, and consistency."""

    def embed_latents(self, batch: Batch, latents: Latents) -> Rows:
        """Projections, where and whether they were seen, and the consistency of each row."""
        model = self.world_model
        query, key = model.objective.compared(latents)
        consistency = (latents.z[:, 1:] - latents.z_key[:, 1:]).square().mean(dim=-1)
        return {
            "query": query[:, 1:],
            "key": key[:, 1:],
            "episode": batch.episode,
            "time": batch.time,
            "terminated": batch.terminated,
            "consistency": model.reduce_rows(batch.within_episodes(consistency)),
        }

    def losses(self, rows: Rows) -> dict[str, Tensor]:
        """Losses `temporal` and `consistency`."""
        model, terminated = self.world_model, rows["terminated"]
        objective = cast(Contrastive, model.objective)
        assert objective.temporal is not None
        alive = torch.cat((torch.ones_like(terminated[:, :1]), ~terminated[:, :-1]), dim=1)
        steps = torch.arange(1, terminated.shape[1] + 1, device=terminated.device)
        episode = rows["episode"].repeat_interleave(len(steps))
        time = (rows["time"][:, None] + steps).flatten()
        loss = objective.temporal.compare(rows["query"], rows["key"], episode, time, ~alive.flatten())
        options = model.options
        return {
            "temporal": options.temporal_weight * model.reduce(loss.where(alive, 0.0)),
            "consistency": options.consistency_weight * rows["consistency"].mean(),
        }

    def compared(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Projections one decision ahead."""
        return rows["query"][:, 0], rows["key"][:, 0]
