"""What the parts of a training step cost: time and its shares, and what memory goes to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from agent.agent import Agent
    from agent.replay import Replay


class Costs(NamedTuple):
    """Median seconds of the parts of a training step.

    Attributes:
        step: one decision of all environments, with its frames.
        draw: one frame by itself; 0 where none are drawn.
        sample: a batch.
        augment: both augmentations of a batch.
        update: on a batch, which it augments by itself.
        act: one decision for all environments.
    """

    step: float
    draw: float
    sample: float
    augment: float
    update: float
    act: float

    def shares(self, updates: float) -> dict[str, float]:
        """Shares of a training step with so many updates; what was not drawing or augmenting is the rest.

        Where environments are in workers, physics holds the waiting for them and their pipes, too.
        """
        draw, augment = min(self.draw, self.step), min(self.augment, self.update)
        parts = {
            "rendering": draw,
            "physics": self.step - draw,
            "acting": self.act,
            "sampling": self.sample * updates,
            "augmentation": augment * updates,
            "update": (self.update - augment) * updates,
        }
        return {name: seconds / sum(parts.values()) for name, seconds in parts.items()}


def memory_mb(agent: Agent, replay: Replay, peak_mb: float) -> dict[str, float]:
    """What the peak of the agent's device consists of, in MiB.

    Returns:
        `replay`, as far as it was filled; `networks`: parameters, their averages and the states of the
        optimisers; `rest`: gradients, activations, and on a CPU Python and its libraries.
    """
    known = {
        "replay": replay.occupied_bytes(agent.device) / 2**20,
        "networks": sum(_sizes(agent.state_dict()).values()) / 2**20,
    }
    return known | {"rest": max(0.0, peak_mb - sum(known.values()))}


def _sizes(state: Any) -> dict[int, int]:
    """Bytes of all tensors in a nested state by where they lie, so that none is counted twice."""
    import torch

    if isinstance(state, torch.Tensor):
        return {state.data_ptr(): state.nbytes}
    values = state.values() if isinstance(state, Mapping) else state if isinstance(state, list) else ()
    sizes: dict[int, int] = {}
    for value in values:
        sizes |= _sizes(value)
    return sizes
