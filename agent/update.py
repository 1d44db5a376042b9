"""The update that training calls: the agent's, as a CUDA graph or not, and the averages that follow it."""

from __future__ import annotations

from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from agent.agent import Agent
from agent.graphed import GraphedUpdate
from world_model.batch import Batch


class Update(Protocol):
    """One gradient step of everything that learns, with the random stream it was made for."""

    def __call__(self, batch: Batch, *, imagine: bool = True) -> dict[str, Tensor]:
        """As `Agent.update`."""
        ...


def make_update(agent: Agent, generator: torch.Generator) -> Update:
    """The agent's update with its random stream, captured as a CUDA graph where the agent is made for it.

    The averages that are evaluated follow.
    """
    step: Update = partial(agent.update, generator=generator)
    if agent.uses_cuda_graph:
        step = GraphedUpdate(agent, generator)

    def update(batch: Batch, *, imagine: bool = True) -> dict[str, Tensor]:
        metrics = step(batch, imagine=imagine)
        agent.steady.follow()
        return metrics

    return update
