"""The agent: replay, actor-critic, planner, training loop, checkpoints and evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from agent.loading import LoadedAgent

__all__ = ["load_agent"]


def load_agent(run: str | Path, *, device: str | torch.device = "cpu") -> LoadedAgent:
    """Load a trained agent; see `agent.loading.load_agent`, which is imported only now."""
    from agent.loading import load_agent as load

    return load(run, device=device)
