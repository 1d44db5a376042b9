"""Encoders from disk: files of pretraining, and the encoders of trained agents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agent import checkpoint
from agent.checkpoint import CheckpointError
from configs.load import load_config
from envs.spec import EnvSpec
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
    run = Path(run)
    path = run if run.is_file() else checkpoint.latest(run / "checkpoints")
    if path is None:
        raise CheckpointError(
            f"{run} holds neither {FILE_NAME} nor a checkpoint: name another directory, or train there first"
        )
    state, directory = checkpoint.load(path), path.parent.parent
    config = load_config(directory / "config.yaml")
    try:
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
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{path} holds no encoder of the agent in {directory / 'config.yaml'} ({reason}): "
            "name another checkpoint"
        ) from error
    return LoadedEncoder(encoder, card, fingerprint(encoder))


def _versions(path: Path) -> dict[str, str]:
    """Those that a run noted; nothing where its manifest cannot be read."""
    try:
        manifest: Any = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): str(version) for name, version in manifest["versions"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
