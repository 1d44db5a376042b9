"""The whole update as one CUDA graph: hundreds of small kernels for the price of one launch."""

from __future__ import annotations

import warnings
from collections import Counter

import torch
from torch import Tensor

from agent.agent import Agent
from world_model.batch import Batch

WARM_UP = 3


class GraphedUpdate:
    """`Agent.update` for batches of one fixed shape, captured at the first calls and replayed from then on.

    Updates with and without imagination, and those that leave a frozen encoder alone, are graphs of their
    own. The first calls of each run eagerly on a side stream, as capturing requires, and are real updates, so
    that nothing is learnt twice and no batch is lost.
    """

    def __init__(self, agent: Agent, generator: torch.Generator):
        """Prepare to capture.

        Args:
            agent: on a CUDA device, with optimisers that can be captured.
            generator: the one that every update draws from.
        """
        self._agent, self._generator = agent, generator
        self._stream = torch.cuda.Stream(agent.device)
        self._graphs: dict[tuple[bool, bool], torch.cuda.CUDAGraph] = {}
        self._calls: Counter[tuple[bool, bool]] = Counter()
        self._batch: Batch | None = None
        self._metrics: dict[tuple[bool, bool], dict[str, Tensor]] = {}

    def __call__(self, batch: Batch, *, imagine: bool = True) -> dict[str, Tensor]:
        """One update; the metrics are overwritten by the next call.

        Raises:
            ValueError: the batch has another shape than the captured one.
        """
        kind = imagine, self._agent.learns_encoder
        self._calls[kind] += 1
        if self._calls[kind] <= WARM_UP:
            return self._eagerly(batch, imagine)
        self._hold(batch)
        if kind not in self._graphs:
            self._capture(kind)
        self._graphs[kind].replay()
        return self._metrics[kind]

    def _eagerly(self, batch: Batch, imagine: bool) -> dict[str, Tensor]:
        self._stream.wait_stream(torch.cuda.current_stream(self._agent.device))
        with torch.cuda.stream(self._stream), warnings.catch_warnings():
            # the optimisers are made for the graph, and say so at every step outside of it
            warnings.filterwarnings("ignore", message=".*without CUDA graph capture.*")
            metrics = self._agent.update(batch, self._generator, imagine=imagine)
        torch.cuda.current_stream(self._agent.device).wait_stream(self._stream)
        return metrics

    def _hold(self, batch: Batch) -> None:
        """Put a batch where the graphs read theirs."""
        if self._batch is None:
            self._batch = Batch(**{name: value.clone() for name, value in vars(batch).items()})
            return
        for name, static in vars(self._batch).items():
            value = getattr(batch, name)
            if value.shape != static.shape:
                raise ValueError(f"{name}: captured {tuple(static.shape)}, found {tuple(value.shape)}")
            static.copy_(value)

    def _capture(self, kind: tuple[bool, bool]) -> None:
        """Record the kernels of an update; they run when the graph is replayed."""
        assert self._batch is not None
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self._generator)
        with torch.cuda.graph(graph, stream=self._stream):
            self._metrics[kind] = self._agent.update(self._batch, self._generator, imagine=kind[0])
        self._graphs[kind] = graph
