"""What is read from disk: trained agents, encoders, and runs that others start from."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agent import checkpoint
from agent.agent import Agent
from agent.checkpoint import CheckpointError
from agent.controller import Controller
from agent.curious import make_agent
from configs.load import load_config
from configs.pretrain import PRETRAIN_FILE
from configs.schema import Config
from envs.spec import EnvSpec, Observation
from world_model.encoder import EncoderFacts
from world_model.encoder_file import (
    FILE_NAME,
    EncoderCard,
    LoadedEncoder,
    encoder_from,
    fingerprint,
    load_encoder,
)

_STEADY = "averages.encoder."


class LoadedAgent:
    """A trained agent for one environment.

    Attributes:
        agent: networks and configuration.
        frames: environment frames it was trained for.
    """

    def __init__(self, agent: Agent, frames: int):
        """Act with `agent`."""
        self.agent = agent
        self.frames = frames
        generator = torch.Generator(agent.device).manual_seed(agent.config.seed)
        self._controller = Controller(agent, 1, generator)

    def act(
        self, obs: np.ndarray, *, proprio: np.ndarray | None = None, deterministic: bool = True
    ) -> np.ndarray:
        """Action for an observation that follows the one of the call before; see `reset`.

        Args:
            obs: stacked frames, uint8 (3 * stack, size, size); of any size where the agent sees no pixels.
            proprio: `info["proprio"]` of the environment, float32 (D,), for an agent that was trained with
                `--obs state` or `pixels+state`.
            deterministic: without exploration noise.

        Returns:
            float32 (A,) in [-1, 1].

        Raises:
            ValueError: what the agent looks at is missing, or has another type or shape.
        """
        spec, config = self.agent.env_spec, self.agent.config
        if config.sees_pixels:
            _check("obs", obs, np.uint8, spec.obs_shape)
        if config.sees_proprio:
            _check("proprio", proprio, np.float32, (spec.proprio_dim,))
        noise_std = 0.0 if deterministic else config.training.exploration_final_std
        vector = np.zeros(0, np.float32) if proprio is None else proprio
        return self._controller.act({0: Observation(obs, vector)}, noise_std)[0]

    def reset(self) -> None:
        """Forget the last action and the plan that started from it: call it at an episode's start."""
        self._controller.reset(0)


def _check(name: str, found: np.ndarray | None, dtype: type, shape: tuple[int, ...]) -> None:
    if found is None or found.shape != shape or found.dtype != dtype:
        what = "nothing" if found is None else f"{found.dtype} {found.shape}"
        raise ValueError(f"{name}: expected {np.dtype(dtype)} {shape}, found {what}")


def find_checkpoint(run: str | Path, *, instead: str = "") -> Path:
    """The newest checkpoint of a run directory, or the checkpoint file that is named.

    Args:
        run: either of them.
        instead: name of a file that would do as well, for the message.

    Raises:
        CheckpointError: there is none, or it is of a pretraining.
    """
    run = Path(run)
    directory = run.parent.parent if run.is_file() else run
    if (directory / PRETRAIN_FILE).is_file():
        is_over = (directory / FILE_NAME).is_file()
        first = "" if is_over else "run nearfar pretrain to its end, then "
        raise CheckpointError(
            f"{run} is of a pretraining, which has no agent: {first}give nearfar train --encoder {directory}"
        )
    path = run if run.is_file() else checkpoint.latest(run / "checkpoints")
    if path is None:
        lacking = f"neither {instead} nor a checkpoint" if instead else "no checkpoint"
        raise CheckpointError(f"{run} holds {lacking}: train there first, or name another directory")
    return path


def _read_run(run: str | Path, *, instead: str = "") -> tuple[Path, dict[str, Any], Config]:
    """A checkpoint as `find_checkpoint` finds it, what it holds, and the options of its run."""
    path = find_checkpoint(run, instead=instead)
    return path, checkpoint.load(path), load_config(path.parent.parent / "config.yaml")


def load_agent(run: str | Path, *, device: str | torch.device = "cpu", averaged: bool = True) -> LoadedAgent:
    """Load a trained agent, as evaluation saw it: by its steady averages.

    Args:
        run: run directory (its newest checkpoint is taken), or a checkpoint file inside one.
        device: where the networks run.
        averaged: if not, it acts by the networks that it collected with. A curious agent's explorer knows no
            others: its policy, its critics and the keys in its memory belong to them.

    Raises:
        CheckpointError: no checkpoint there, or one that cannot be read, or that does not fit `config.yaml`.
        ConfigError: the run's `config.yaml` is damaged.
    """
    path, state, config = _read_run(run)
    with _fitting(path, "agent"):
        with torch.random.fork_rng(devices=[]):  # the weights drawn here are replaced
            agent = make_agent(EnvSpec(**state["env_spec"]), config, torch.device(device))
        agent.load_state_dict(state["agent"], optimizers=False)
        if averaged:
            agent.steady.swap()
        return LoadedAgent(agent, state["progress"]["frames"])


@contextmanager
def _fitting(path: Path, what: str) -> Iterator[None]:
    """Say in one line that a checkpoint does not hold what its run's `config.yaml` describes."""
    try:
        yield
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        reason = " ".join((repr(error) if isinstance(error, KeyError) else str(error)).split())[:200]
        raise CheckpointError(
            f"{path} holds no {what} as {path.parent.parent / 'config.yaml'} describes it ({reason}): "
            "put the config.yaml of that run back, or name another checkpoint"
        ) from error


def read_encoder(path: str | Path) -> LoadedEncoder:
    """The encoder that a path stands for.

    Args:
        path: an encoder's file or the directory of a pretraining, a run directory (its newest checkpoint is
            taken) or a checkpoint inside one.

    Raises:
        EncoderFileError: none of these, or a file that is damaged.
        CheckpointError: a run without checkpoint, or one that cannot be read.
        ConfigError: the run's `config.yaml` is damaged.
    """
    path = Path(path)
    is_run = path.is_dir() and not (path / FILE_NAME).exists()
    is_checkpoint = path.is_file() and (path.parent.parent / "config.yaml").is_file()
    if is_run or (is_checkpoint and path.parent.name == "checkpoints"):
        return encoder_of_run(path)
    return load_encoder(path)


def encoder_of_run(run: str | Path) -> LoadedEncoder:
    """The encoder that a trained agent acts by when it is evaluated: the steady average of its key encoder.

    Args:
        run: run directory (its newest checkpoint is taken), or a checkpoint inside one.

    Raises:
        CheckpointError: no checkpoint there, or one that cannot be read.
        ConfigError: the run's `config.yaml` is damaged.
    """
    path, state, config = _read_run(run, instead=FILE_NAME)
    directory = path.parent.parent
    with _fitting(path, "encoder"):
        env_spec, progress = EnvSpec(**state["env_spec"]), state["progress"]
        steady = state["agent"]["steady"]
        tensors = {
            name.removeprefix(_STEADY): value for name, value in steady.items() if name.startswith(_STEADY)
        }
        encoder = encoder_from(tensors, EncoderFacts.of(env_spec, config.world_model, config.obs))
        card = EncoderCard(
            method=f"agent, {config.world_model.objective}",
            data={"task": env_spec.task, "seed": config.seed, "episodes": state["stored_episodes"]},
            config=config.model_dump(mode="json"),
            metrics={name: progress[name] for name in ("frames", "updates", "best_return")},
            versions=_versions(directory / "manifest.json"),
        )
    return LoadedEncoder(encoder, card, fingerprint(encoder))


def _versions(path: Path) -> dict[str, str]:
    """Those that a run noted; nothing where its manifest cannot be read."""
    try:
        manifest: Any = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): str(version) for name, version in manifest["versions"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


@dataclass(frozen=True)
class Predecessor:
    """A run as its checkpoint holds it.

    Attributes:
        path: the run directory.
        checkpoint: the file inside it.
        fingerprint: CRC-32 of that file, as 8 hexadecimal digits.
        config: its options.
        env_spec: its task.
        agent: the state of its agent.
        frames: that led to it: its own, and those of the runs that it started from.
        stored_episodes: it had recorded, numbered from 0.
    """

    path: Path
    checkpoint: Path
    fingerprint: str
    config: Config
    env_spec: EnvSpec
    agent: dict[str, Any]
    frames: int
    stored_episodes: int

    @property
    def facts(self) -> dict[str, Any]:
        """What a manifest should say, as JSON values."""
        return {
            "path": str(self.path),
            "checkpoint": self.checkpoint.name,
            "fingerprint": self.fingerprint,
            "task": self.env_spec.task,
            "frames": self.frames,
        }


def read_predecessor(run: str | Path) -> Predecessor:
    """What a run directory (its newest checkpoint), or a checkpoint inside one, holds.

    Raises:
        CheckpointError: no checkpoint there, or one that cannot be read.
        ConfigError: the run's `config.yaml` is missing or damaged.
    """
    path, state, config = _read_run(run)
    directory = path.parent.parent
    try:
        return Predecessor(
            path=directory,
            checkpoint=path,
            fingerprint=f"{zlib.crc32(path.read_bytes()):08x}",
            config=config,
            env_spec=EnvSpec(**state["env_spec"]),
            agent=state["agent"],
            frames=state["progress"]["frames"] + _frames_before(directory / "manifest.json"),
            stored_episodes=state["stored_episodes"],
        )
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path} holds no run ({error!r}): name another one") from error


def _frames_before(manifest: Path) -> int:
    """Frames of the runs that a run started from; 0 where its manifest tells of none, or cannot be read."""
    try:
        return int(json.loads(manifest.read_text(encoding="utf-8"))["from"]["frames"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0
