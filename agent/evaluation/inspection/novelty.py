"""How novel a curious agent finds what was recorded."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from agent.curious import CuriousAgent
from agent.evaluation.inspection.analysis import look_at
from envs.recording import Episode
from world_model.curiosity import Arrivals


@torch.no_grad()
def novelty(agent: CuriousAgent, episode: Episode) -> NDArray[np.float64]:
    """The bonus of each decision of an episode, as it is by now.

    An episode of the agent's own run does not count as a match of itself.

    Args:
        agent: as `load_agent` returns it; for this, it looks as it did when it collected.
        episode: of T decisions.

    Returns:
        In units of the bonus, not normalised, (T,).
    """
    with agent.steady.acting():
        seen = look_at(agent, episode)
    steps, device = episode.steps, agent.device
    arrivals = Arrivals(
        state=seen.state[:-1],
        action=torch.tensor(episode.action, device=device),
        latent=seen.state[1:, : agent.config.world_model.latent_dim],
        key=seen.key[1:],
        episode=torch.full((steps,), episode.info.episode, device=device),
        time=torch.arange(1, steps + 1, device=device),
    )
    return agent.explorer.bonus(arrivals).double().cpu().numpy()
