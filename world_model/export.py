"""Encoders as programs of `torch.export`, which run without this project."""

from __future__ import annotations

import copy
import io
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from agent.atomic import write_atomically
from world_model.encoder import Encoder, perceived


class FromPixels(nn.Module):
    """Stacked frames, uint8 (B, 3 * S, H, W) -> (B, Z)."""

    def __init__(self, encoder: Encoder) -> None:
        """Run an encoder of pixels alone."""
        super().__init__()
        self.encoder = encoder

    def forward(self, pixels: Tensor) -> Tensor:
        """Latents."""
        return self.encoder(pixels, pixels.new_zeros((pixels.shape[0], 0), dtype=torch.float32))


class FromVector(nn.Module):
    """The task's own vectors in its own units, float32 (B, D) -> (B, Z)."""

    def __init__(self, encoder: Encoder) -> None:
        """Run an encoder of vectors alone."""
        super().__init__()
        self.encoder = encoder

    def forward(self, proprio: Tensor) -> Tensor:
        """Latents."""
        return self.encoder(proprio.new_zeros((0,), dtype=torch.uint8), perceived(proprio))


class FromBoth(nn.Module):
    """Stacked frames, uint8 (B, 3 * S, H, W), and vectors, float32 (B, D) -> (B, Z)."""

    def __init__(self, encoder: Encoder) -> None:
        """Run an encoder of both."""
        super().__init__()
        self.encoder = encoder

    def forward(self, pixels: Tensor, proprio: Tensor) -> Tensor:
        """Latents."""
        return self.encoder(pixels, perceived(proprio))


def export_encoder(path: str | os.PathLike[str], encoder: Encoder) -> None:
    """Write a program for a CPU and any number of rows, for `torch.export.load(path).module()`.

    Its arguments are what the encoder looks at: `pixels`, uint8 (B, 3 * S, H, W), `proprio`, float32 (B, D)
    in the task's own units, or the two in this order. It returns latents, float32 (B, Z).

    Args:
        path: where to, `.pt2`.
        encoder: on any device; unchanged.

    Raises:
        OSError: the file cannot be written; an older one there is untouched.
    """
    facts = encoder.facts
    # exported weights have to be contiguous; encoders of an agent are channels last
    encoder = copy.deepcopy(encoder).cpu().to(memory_format=torch.contiguous_format).requires_grad_(False)  # type: ignore[call-overload]  # not in its types
    channels, height, width = facts.frame_shape
    given: dict[str, Tensor] = {}
    if "pixels" in facts.obs:
        given["pixels"] = torch.zeros(2, channels * facts.stack, height, width, dtype=torch.uint8)
    if "state" in facts.obs:
        given["proprio"] = torch.zeros(2, facts.proprio_dim)
    kinds: dict[str, type[FromPixels | FromVector | FromBoth]] = {
        "pixels": FromPixels,
        "state": FromVector,
        "pixels+state": FromBoth,
    }
    rows = torch.export.Dim("rows", min=1)
    shapes: dict[str, Any] = {name: {0: rows} for name in given}
    program = torch.export.export(
        kinds[facts.obs](encoder).eval(), tuple(given.values()), dynamic_shapes=shapes
    )
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    write_atomically(Path(path), buffer.getvalue())
