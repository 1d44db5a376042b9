"""What a trained agent makes of recorded episodes: latents, values, imagined futures, candidate plans."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from agent.agent import Agent
from agent.planners.base import rollout
from agent.planners.registry import PLANNERS
from envs.recording import Episode
from world_model.batch import Latents

_ROWS = 256  # observations encoded at once


@dataclass(frozen=True)
class Seen:
    """An episode as an agent sees it: T decisions, T + 1 observations.

    Attributes:
        episode: what was recorded.
        state: latents with the action that led to them, (T + 1, Z + A).
        key: unit vectors in which the objective compares what was seen, (T + 1, P).
        value: value that the critics give to each state, (T + 1,).
    """

    episode: Episode
    state: Tensor
    key: Tensor
    value: NDArray[np.float64]


@torch.no_grad()
def look_at(agent: Agent, episode: Episode) -> Seen:
    """Encode an episode by the agent's averages."""
    stack = agent.env_spec.stack
    index = np.maximum(np.arange(len(episode.frame))[:, None] + np.arange(1 - stack, 1), 0)
    last_action = np.concatenate([np.zeros_like(episode.action[:1]), episode.action])
    rows = [
        agent.encode(
            torch.from_numpy(episode.frame[index[start : start + _ROWS]]).flatten(1, 2).to(agent.device),
            torch.tensor(episode.proprio[start : start + _ROWS]).to(agent.device),
            torch.from_numpy(last_action[start : start + _ROWS]).to(agent.device),
        )
        for start in range(0, len(index), _ROWS)
    ]
    state = torch.cat(rows)
    return Seen(episode, state, compared(agent, state)[1], agent.value(state).double().cpu().numpy())


@torch.no_grad()
def compared(agent: Agent, state: Tensor) -> tuple[Tensor, Tensor]:
    """States as the objective compares them, as queries and as keys: (N, Z + A) -> unit rows (N, P) twice."""
    z, action = state.split([agent.config.world_model.latent_dim, agent.env_spec.action_dim], dim=1)
    latents = Latents(z=z[:, None], z_key=z[:, None], last_action=action[:, None])
    query, key = agent.model.objective.compared(latents)
    return F.normalize(query[:, 0], dim=1), F.normalize(key[:, 0], dim=1)


@torch.no_grad()
def imagine(agent: Agent, seen: Seen, start: int, horizon: int) -> Tensor:
    """Queries of the states that the model expects after the recorded actions, (horizon, P).

    Args:
        agent: whose model imagines.
        seen: an episode.
        start: decision to start from; `start + horizon` must lie within the episode.
        horizon: decisions ahead.

    Raises:
        ValueError: the episode ends before.
    """
    if not 0 <= start <= start + horizon <= seen.episode.steps:
        raise ValueError(f"expected {start} + {horizon} within {seen.episode.steps} decisions")
    state, states = seen.state[start : start + 1], []
    actions = torch.tensor(seen.episode.action[start : start + horizon]).to(agent.device)
    for action in actions:
        state, _, _ = agent.step(state, action[None])
        states.append(state)
    return compared(agent, torch.cat(states))[0]


@dataclass(frozen=True)
class Match:
    """What an imagined state was taken for.

    Attributes:
        frame: newest frame of the nearest recorded observation, uint8 (3, H, W).
        rank: place of the observation that really followed, 1 for the nearest of all. Ties are misses, as in
            `world_model.metrics.retrieval_accuracy`: where all look alike, it is the last.
        steps_off: decisions between the two, where both are of one episode.
    """

    frame: np.ndarray
    rank: int
    steps_off: int | None


def find(query: Tensor, gallery: list[Seen], truth: tuple[int, int]) -> Match:
    """The recorded observation nearest to an imagined one.

    Args:
        query: unit vector, (P,).
        gallery: episodes to search.
        truth: which observation really followed: index into the gallery, and into the episode.
    """
    cosine = torch.cat([seen.key for seen in gallery]) @ query
    counts = [len(seen.key) for seen in gallery]
    own = sum(counts[: truth[0]]) + truth[1]
    nearest = int(cosine.argmax())
    episode = int(np.searchsorted(np.cumsum(counts), nearest, side="right"))
    step = nearest - sum(counts[:episode])
    rounding = 8 * torch.finfo(cosine.dtype).eps  # equal keys need not give bit-equal products
    return Match(
        frame=gallery[episode].episode.frame[step],
        rank=int((cosine >= cosine[own] - rounding).sum()),
        steps_off=step - truth[1] if episode == truth[0] else None,
    )


@dataclass(frozen=True)
class Candidates:
    """Plans of one state.

    Attributes:
        action: N candidates' actions, (N, H, A).
        predicted: discounted return that the model expects of each, (N,).
        chosen: actions of the plan that was made, (H, A).
        policy: actions of the policy alone, (H, A).
    """

    action: NDArray[np.float64]
    predicted: NDArray[np.float64]
    chosen: NDArray[np.float64]
    policy: NDArray[np.float64]


@torch.no_grad()
def candidate_plans(agent: Agent, state: Tensor, count: int, seed: int = 0) -> Candidates:
    """Plans as wide as a search starts with, what the model expects of them, and which plan is made.

    Args:
        agent: who plans.
        state: (Z + A,).
        count: candidates to draw.
        seed: of the candidates.
    """
    options = agent.config.planner
    generator = torch.Generator(agent.device).manual_seed(seed)
    planner = PLANNERS[options.control](options)
    memory = planner.start(1, agent.env_spec.action_dim, agent.device)
    plan = planner.plan(agent, state[None], memory, noise_std=0.0, generator=generator)
    shape = (count, *plan.offsets.shape[1:])
    noise = torch.randn(shape, generator=generator, device=agent.device)
    offsets = torch.cat((options.max_std * noise, plan.offsets, torch.zeros_like(plan.offsets)))
    starts = state[None].expand(len(offsets), -1)
    _, predicted = rollout(agent, starts, offsets)
    actions = _actions(agent, starts, offsets).double().cpu().numpy()
    return Candidates(
        action=actions[:-2],
        predicted=predicted[:-2].double().cpu().numpy(),
        chosen=actions[-2],
        policy=actions[-1],
    )


def _actions(agent: Agent, state: Tensor, offsets: Tensor) -> Tensor:
    """Actions that offsets from the policy amount to, (N, Z + A), (N, H, A) -> (N, H, A)."""
    actions = []
    for k in range(offsets.shape[1]):
        action = (agent.act(state) + offsets[:, k]).clamp(-1, 1)
        state, _, _ = agent.step(state, action)
        actions.append(action)
    return torch.stack(actions, dim=1)


def realised_returns(reward: NDArray[np.float32], discount: float, value_after: float) -> NDArray[np.float64]:
    """Discounted sum of the rewards that followed each observation.

    Args:
        reward: (T,).
        discount: per decision.
        value_after: what is expected after the last observation: nothing after the end of the task, and the
            critics' value where only time ran out, as in their own targets.

    Returns:
        (T + 1,).
    """
    returns = np.full(len(reward) + 1, value_after)
    for t in range(len(reward) - 1, -1, -1):
        returns[t] = reward[t] + discount * returns[t + 1]
    return returns
