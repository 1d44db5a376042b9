"""The whole update as one CUDA graph: hundreds of small kernels for the price of one launch."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from agent.agent import Agent
from world_model.batch import Batch

WARM_UP = 3


class GraphedUpdate:
    """`Agent.update` for batches of one fixed shape, captured at the first calls and replayed from then on.

    The first calls run eagerly on a side stream, as capturing requires, and are real updates, so that
    nothing is learnt twice and no batch is lost.
    """

    def __init__(self, agent: Agent, generator: torch.Generator):
        """Prepare to capture.

        Args:
            agent: on a CUDA device, with optimisers that can be captured.
            generator: the one that every update draws from.
        """
        self._agent, self._generator = agent, generator
        self._stream = torch.cuda.Stream(agent.device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._calls = 0
        self._batch: Batch | None = None
        self._metrics: dict[str, Tensor] = {}

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """One update; the metrics are overwritten by the next call.

        Raises:
            ValueError: the batch has another shape than the captured one.
        """
        self._calls += 1
        if self._calls <= WARM_UP:
            return self._eagerly(batch)
        if self._graph is None or self._batch is None:
            return self._capture(batch)
        for name, static in vars(self._batch).items():
            value = getattr(batch, name)
            if value.shape != static.shape:
                raise ValueError(f"{name}: captured {tuple(static.shape)}, found {tuple(value.shape)}")
            static.copy_(value)
        self._graph.replay()
        return self._metrics

    def _eagerly(self, batch: Batch) -> dict[str, Tensor]:
        self._stream.wait_stream(torch.cuda.current_stream(self._agent.device))
        with torch.cuda.stream(self._stream), warnings.catch_warnings():
            # the optimisers are made for the graph, and say so at every step outside of it
            warnings.filterwarnings("ignore", message=".*without CUDA graph capture.*")
            metrics = self._agent.update(batch, self._generator)
        torch.cuda.current_stream(self._agent.device).wait_stream(self._stream)
        return metrics

    def _capture(self, batch: Batch) -> dict[str, Tensor]:
        """Record the kernels of an update, then run them once for this batch."""
        self._batch = Batch(**{name: value.clone() for name, value in vars(batch).items()})
        self._graph = torch.cuda.CUDAGraph()
        self._graph.register_generator_state(self._generator)
        with torch.cuda.graph(self._graph, stream=self._stream):
            self._metrics = self._agent.update(self._batch, self._generator)
        self._graph.replay()
        return self._metrics


def make_update(agent: Agent, generator: torch.Generator) -> Callable[[Batch], dict[str, Tensor]]:
    """The agent's update with its random stream, captured as a CUDA graph where the agent is made for it."""
    if agent.uses_cuda_graph:
        return GraphedUpdate(agent, generator)
    return lambda batch: agent.update(batch, generator)
