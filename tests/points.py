"""Recorded experience without an environment, and methods that learn from it, for tests of pretraining."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from configs.pretrain import WINDOWED, MethodName, PretrainConfig
from envs.episodes import EpisodeStore
from envs.recording import Episode, EpisodeInfo
from envs.spec import EnvSpec
from world_model.augment import shift
from world_model.pretrain.method import Method
from world_model.pretrain.registry import make_method
from world_model.pretrain.samples import Pairs, Samples, Windows
from world_model.pretrain.source import Source

SIZE, ACTIONS, VECTOR, STACK = 32, 2, 4, 2

_PAIRS = {"hidden_dim": 32, "projection_dim": 16}
_MOCO = _PAIRS | {"queue": 24}
_SMALL: dict[str, Any] = {
    "model": {"latent_dim": 32, "encoder": {"channels": 8}, "horizon": 3},
    "batch": {"size": 12},
    "stack": STACK,
}
VARIANTS: dict[str, dict[str, Any]] = {
    **{name: {"method": name} for name in WINDOWED},
    **{name: {"method": name, "pairs": _PAIRS} for name in get_args(MethodName) if name not in WINDOWED},
    "moco": {"method": "moco", "pairs": _MOCO},
    "moco v1": {"method": "moco", "pairs": {"projection_dim": 16, "queue": 24, "moco": "v1"}},
    "moco v3": {"method": "moco", "pairs": _PAIRS | {"moco": "v3"}},
    "moco without a queue": {"method": "moco", "pairs": _PAIRS | {"queue": 0}},
    "a queue below the batch": {"method": "moco", "pairs": _PAIRS | {"queue": 8}},
    "moco in tiles, without near ones": {"method": "moco", "pairs": _MOCO | {"near_window": 3, "tile": 5}},
    "decoupled": {"method": "simclr", "pairs": _PAIRS | {"decoupled": True}},
    "in tiles": {"method": "simclr", "pairs": _PAIRS | {"tile": 5}},
    "without near ones": {"method": "simclr", "pairs": _PAIRS | {"near_window": 3}},
    "state": {"method": "byol", "obs": "state", "pairs": _PAIRS, "model": {"latent_dim": 32}},
    "both in windows": {"method": "temporal", "obs": "pixels+state"},
    "lars": {"method": "simclr", "pairs": _PAIRS, "optimizer": {"name": "lars"}},
}
"""Names of all methods and variations of them, which may be computed in float64."""
BFLOAT16 = "bfloat16"
_REDUCED: dict[str, Any] = {
    "method": "simclr",
    "pairs": _PAIRS,
    "model": _SMALL["model"] | {"encoder": {"channels": 8, "precision": "bfloat16"}},
}


def config_of(name: str, **changes: Any) -> PretrainConfig:
    """Small options of a variant; pairs are positives by time, too."""
    variant = _REDUCED if name == BFLOAT16 else VARIANTS[name]
    config = PretrainConfig(**(_SMALL | variant | changes))
    if config.is_windowed:
        return config
    return config.model_copy(
        update={"positives": config.positives.model_copy(update={"by": "both", "max_gap": 4})}
    )


def env_spec() -> EnvSpec:
    return EnvSpec(
        task="test/point", frame_shape=(3, SIZE, SIZE), stack=STACK, action_dim=ACTIONS, action_repeat=1,
        episode_frames=100, can_terminate=False, physics_dim=2, look="fast", proprio_dim=VECTOR,
    )  # fmt: skip


def method_of(config: PretrainConfig) -> Method:
    """Networks in float64."""
    torch.manual_seed(0)
    method = make_method(config.method, env_spec(), config.obs, config.model.world_model(), config.pairs)
    return method.double()


def drawn(config: PretrainConfig, update: int, rank: int = 0, size: int = 1) -> Samples:
    """A batch, its vectors in float64."""
    samples = Source(Points(), config).draw(update, rank, size)
    if isinstance(samples, Windows):
        return replace(samples, batch=replace(samples.batch, proprio=samples.batch.proprio.double()))
    assert isinstance(samples, Pairs)
    return replace(samples, proprio=samples.proprio.double(), later_proprio=samples.later_proprio.double())


class Points:
    """Episodes in which a bright square walks over a dark frame; its place and velocity are the vector."""

    def __init__(self, lengths: tuple[int, ...] = (30, 20, 25), seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.lengths = np.array(lengths)
        self.actions, self.vectors, self.frames = [], [], []
        for length in lengths:
            action = rng.uniform(-1, 1, (length - 1, ACTIONS)).astype(np.float32)
            walk = np.concatenate((rng.uniform(6, 26, (1, 2)), 2 * action)).cumsum(axis=0).clip(3, 29)
            velocity = np.diff(walk, axis=0, prepend=walk[:1])
            self.actions.append(action)
            self.vectors.append(np.concatenate((walk / 16 - 1, velocity), axis=1).astype(np.float32))
            frames = np.full((length, 3, SIZE, SIZE), 30, np.uint8)
            for frame, (y, x) in zip(frames, walk.round().astype(int), strict=True):
                frame[:, y - 3 : y + 3, x - 3 : x + 3] = 220
            self.frames.append(frames)

    def stacks(self, episode: np.ndarray, time: np.ndarray, stack: int) -> np.ndarray:
        back = np.arange(1 - stack, 1)
        places = zip(episode, time, strict=True)
        return np.stack([self.frames[e][np.maximum(t + back, 0)].reshape(-1, SIZE, SIZE) for e, t in places])

    def rows(self, name: str, episode: np.ndarray, start: np.ndarray, count: int) -> np.ndarray:
        places = zip(episode, start, strict=True)
        arrays = {"proprio": self.vectors, "action": self.actions}
        if name in arrays:
            return np.stack([arrays[name][e][t : t + count] for e, t in places])
        return np.zeros((len(start), count), {"reward": np.float32, "terminated": np.bool_}[name])


def write_store(path: Path, points: Points, task: str = "test/point") -> None:
    """Episodes as a store on disk."""
    info = EpisodeInfo(
        task=task, look="fast", action_repeat=1, lane=0, episode=0, seed=0, frames=1, versions={}
    )
    store = EpisodeStore(path)
    for frames, actions, vectors in zip(points.frames, points.actions, points.vectors, strict=True):
        steps = len(actions)
        store.commit(
            Episode(
                frame=frames,
                action=actions,
                reward=np.zeros(steps, np.float32),
                terminated=np.zeros(steps, np.bool_),
                truncated=np.arange(steps) == steps - 1,
                physics=vectors[:, :2].astype(np.float64),
                proprio=vectors,
                info=info,
            )
        )


class Shifts:
    """Views of which a row's draw depends on update, view and row alone."""

    def __init__(self, update: int = 0, padding: int = 2) -> None:
        self.update, self.padding = update, padding

    def images(self, images: Tensor, row: Tensor, view: int) -> Tensor:
        span = 2 * self.padding + 1
        draws = [np.random.default_rng((self.update, view, int(r))).integers(span, size=2) for r in row]
        return shift(images, torch.from_numpy(np.stack(draws) - self.padding))

    def vectors(self, vectors: Tensor, row: Tensor, view: int) -> Tensor:
        draws = [np.random.default_rng((self.update, view, int(r), 1)).normal() for r in row]
        return vectors + 0.01 * torch.tensor(draws).view(-1, *[1] * (vectors.ndim - 1))
