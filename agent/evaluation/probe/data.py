"""Recorded episodes as rows of observations, and what there is to be read off them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from configs.load import ConfigError
from envs.episodes import EpisodeStore
from envs.recording import Episode
from envs.state import StateVariable, unnamed_variables
from world_model.encoder import EncoderFacts, perceived
from world_model.probing import FEWEST_EPISODES, Floats, Split, split_by_episode

_MOST_EPISODES = 500  # each holds a file open


@dataclass(frozen=True)
class ProbeData:
    """Observations of whole episodes, one after another.

    Attributes:
        store: where they are from.
        episodes: E of them.
        episode: index of the episode of each row, (N,).
        time: decision of each row within its episode, (N,).
        split: of the rows, by episode.
        variables: of the state.
        state: its values, (N, entries).
        reward: of the decision that led to each row, (N,); none at an episode's start: NaN.
        action: taken at each row, (N, A); none at an episode's end: NaN.
    """

    store: Path
    episodes: Sequence[Episode]
    episode: NDArray[np.int64]
    time: NDArray[np.int64]
    split: Split
    variables: tuple[StateVariable, ...]
    state: Floats
    reward: Floats
    action: Floats

    @property
    def fingerprint(self) -> str:
        """CRC-32 of actions, rewards and states, as 8 hexadecimal digits."""
        crc = 0
        for episode in self.episodes:
            for array in (episode.action, episode.reward, episode.physics):
                crc = zlib.crc32(np.ascontiguousarray(array).data, crc)
        return f"{crc:08x}"

    def columns(self, variable: StateVariable) -> Floats:
        """Values of a variable, (N, 1), or its sine and cosine, (N, 2)."""
        value = self.state[:, variable.index]
        columns = (np.sin(value), np.cos(value)) if variable.is_periodic else (value,)
        return np.stack(columns, axis=1)

    def frames(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Newest frames of some rows, uint8 (n, 3, H, W)."""
        return np.stack([self.episodes[self.episode[row]].frame[self.time[row]] for row in rows])

    def stacks(self, rows: NDArray[np.int64], stack: int) -> Tensor:
        """Stacked frames of some rows, uint8 (n, 3 * stack, H, W); a first frame is repeated."""
        found = []
        for row in rows:
            ages = np.maximum(self.time[row] + np.arange(1 - stack, 1), 0)
            found.append(self.episodes[self.episode[row]].frame[ages])
        return torch.from_numpy(np.stack(found)).flatten(1, 2)

    def proprio(self, rows: NDArray[np.int64]) -> Tensor:
        """The task's own vectors of some rows as encoders see them, float32 (n, D)."""
        found = [self.episodes[self.episode[row]].proprio[self.time[row]] for row in rows]
        return perceived(torch.from_numpy(np.stack(found)))


def read_data(path: Path, observations: int, variables: Sequence[StateVariable], seed: int = 0) -> ProbeData:
    """Whole episodes, evenly spread over a store.

    Args:
        path: a store, or a run directory that holds one.
        observations: about how many to take.
        variables: of the physics state; where they are not those of the data, its entries stay without names.
        seed: of the split.

    Raises:
        ConfigError: there are too few episodes.
        EpisodeError: one cannot be read.
    """
    store = open_store(path)
    identifiers = store.ids()
    if len(identifiers) < FEWEST_EPISODES:
        raise ConfigError(
            f"{store.path} holds {len(identifiers)} episodes, and probing needs {FEWEST_EPISODES} at least: "
            "record more"
        )
    length = max(len(store.read(each).frame) for each in identifiers[:: max(1, len(identifiers) // 10)])
    count = min(len(identifiers), max(FEWEST_EPISODES, observations // length), _MOST_EPISODES)
    chosen = np.linspace(0, len(identifiers) - 1, count).round().astype(int)
    episodes = [store.read(identifiers[index]) for index in chosen]
    lengths = [len(each.frame) for each in episodes]
    episode = np.repeat(np.arange(len(episodes)), lengths)
    state = np.concatenate([each.physics for each in episodes])
    if not state.shape[1]:
        state = np.concatenate([each.proprio for each in episodes]).astype(np.float64)
        variables = unnamed_variables(state.shape[1], "vector")
    elif sorted(each.index for each in variables) != list(range(state.shape[1])):
        variables = unnamed_variables(state.shape[1], "state")
    nothing = [np.full((1, each.action.shape[1]), np.nan) for each in episodes]
    return ProbeData(
        store=store.path,
        episodes=episodes,
        episode=episode,
        time=np.concatenate([np.arange(each) for each in lengths]),
        split=split_by_episode(episode, seed),
        variables=tuple(variables),
        state=state,
        reward=np.concatenate([np.append(np.nan, each.reward) for each in episodes]),
        action=np.concatenate(
            [part for pair in zip((each.action for each in episodes), nothing, strict=True) for part in pair]
        ).astype(np.float64),
    )


def open_store(path: Path) -> EpisodeStore:
    """The store at a path, or in the run directory there.

    Raises:
        EpisodeError: there is none.
    """
    store = EpisodeStore(path / "episodes" if (path / "episodes" / "store.json").is_file() else path)
    _ = store.shared  # raises where nothing was ever stored
    return store


def check_readable(name: str, facts: EncoderFacts, data: ProbeData) -> None:
    """Find what an encoder looks at and the data lacks.

    Raises:
        ConfigError: names the encoder, and what differs.
    """
    first = data.episodes[0]
    shape, size = first.frame.shape[1:], first.proprio.shape[1]
    if "pixels" in facts.obs and shape != facts.frame_shape:
        _, height, width = facts.frame_shape
        raise ConfigError(
            f"encoder {name} sees frames of {height} x {width}, those in {data.store} have "
            f"{shape[1]} x {shape[2]}: give data of its size"
        )
    if "state" in facts.obs and size != facts.proprio_dim:
        raise ConfigError(
            f"encoder {name} sees vectors of length {facts.proprio_dim}, those in {data.store} have {size}: "
            "give data of its task"
        )
