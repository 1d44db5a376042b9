"""What pixels and the task's own vectors are compared by (`nearfar pretrain --method clip`), in a file.

`state_encoder.safetensors` lies beside the encoder of pixels that it was learnt with.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from configs.options import Options, Positive
from world_model.encoder_file import EncoderCard, fingerprint_of, read_network, write_network
from world_model.layers import mlp

FILE_NAME = "state_encoder.safetensors"
KIND = "nearfar-state-encoder"


class TowerFacts(Options):
    """What has to be known to build the towers again."""

    encoder: str
    """Fingerprint of the encoder of pixels that they stand on."""
    latent_dim: Positive
    """Size Z of what that gives."""
    proprio_dim: Positive
    """Entries D of the task's own vector."""
    hidden_dim: Positive
    """Width of the hidden layers."""
    projection_dim: Positive
    """Size P of the space in which both are compared."""


class Towers(nn.Module):
    """Where latents of pixels and the task's own vectors meet.

    Attributes:
        facts: what it was built from.
        projection: latents (B, Z) -> (B, P).
        state_encoder: vectors as they are perceived, (B, D) -> (B, P).
    """

    def __init__(self, facts: TowerFacts) -> None:
        """Draw the weights."""
        super().__init__()
        self.facts = facts
        self.projection = mlp(facts.latent_dim, facts.hidden_dim, facts.projection_dim)
        self.state_encoder = mlp(facts.proprio_dim, facts.hidden_dim, facts.projection_dim)


def save_towers(path: Path, towers: Towers, card: EncoderCard) -> None:
    """Write towers, and their card as JSON beside them.

    Args:
        path: where to, `.safetensors`.
        towers: on any device.
        card: where they come from.

    Raises:
        OSError: one of the files cannot be written.
    """
    write_network(path, KIND, towers, towers.facts, card)


def find_towers(encoder: Path, fingerprint: str) -> Towers | None:
    """Those that lie beside an encoder and stand on it, where there are such.

    Args:
        encoder: its file, or the directory that it is in.
        fingerprint: of the encoder.

    Raises:
        EncoderFileError: the file is damaged, no such one, or of a newer format.
    """
    path = (encoder if encoder.is_dir() else encoder.parent) / FILE_NAME
    if not path.exists():
        return None
    towers = read_network(path, KIND, _rebuilt)
    return towers if towers.facts.encoder == fingerprint else None


def _rebuilt(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Towers:
    try:
        facts = TowerFacts.model_validate_json(metadata["facts"])
    except ValidationError as error:
        raise ValueError(f"what it was built from: {error.errors()[0]['msg']}") from error
    with torch.device("meta"):  # nothing is built as large as the facts may claim, and nothing is drawn
        towers = Towers(facts)
    towers.load_state_dict(dict(tensors), assign=True)
    if any(parameter.dtype != torch.float32 for parameter in towers.parameters()):
        raise ValueError("expected weights of float32")
    if fingerprint_of(towers, facts) != metadata["fingerprint"]:
        raise ValueError("its weights are not those that were written")
    return towers.requires_grad_(False)
