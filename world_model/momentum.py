"""Exponential moving average of a module: momentum key encoders and target critics."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def ema_update(target: nn.Module, online: nn.Module, tau: float) -> None:
    """Move `target` towards `online` in place: target ← (1 - tau)·target + tau·online.

    Args:
        target: module whose parameters and floating buffers are averaged; integer buffers are copied.
        online: module of the same structure, unchanged.
        tau: step, in [0, 1]; 1 copies.

    Raises:
        ValueError: tau lies outside [0, 1], or names, shapes or types of the two modules differ. Nothing
            is changed then.
    """
    if not 0 <= tau <= 1:
        raise ValueError(f"expected tau in [0, 1], found {tau}")
    averaged = _pairs("parameter", target.named_parameters(), online.named_parameters())
    for ours, theirs in _pairs("buffer", target.named_buffers(), online.named_buffers()):
        if ours.is_floating_point():
            averaged.append((ours, theirs))
        else:
            ours.copy_(theirs)
    if averaged:
        ours_all, theirs_all = zip(*averaged, strict=True)
        torch._foreach_lerp_(list(ours_all), list(theirs_all), tau)  # one call for all tensors


def _pairs(
    kind: str, target: Iterable[tuple[str, Tensor]], online: Iterable[tuple[str, Tensor]]
) -> list[tuple[Tensor, Tensor]]:
    """Tensors of both modules by name, checked to fit."""
    ours, theirs = dict(target), dict(online)
    if ours.keys() != theirs.keys():
        raise ValueError(
            f"expected the same {kind} names, found only in target {sorted(ours.keys() - theirs.keys())}, "
            f"only in online {sorted(theirs.keys() - ours.keys())}"
        )
    for name, tensor in ours.items():
        other = theirs[name]
        if tensor.shape != other.shape or tensor.dtype != other.dtype:
            raise ValueError(
                f"expected {kind} {name!r} of one shape and type, found {tuple(tensor.shape)} {tensor.dtype} "
                f"in target and {tuple(other.shape)} {other.dtype} in online"
            )
    return [(tensor, theirs[name]) for name, tensor in ours.items()]
