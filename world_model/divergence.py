"""Learning that went off: losses or latents that are no numbers any more."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor


class DivergedError(RuntimeError):
    """A loss or what follows from it is no number; the message says when, and what to try."""


def check_finite(values: Mapping[str, Tensor | float], update: int, remedy: str) -> None:
    """Find losses and ranks that are not finite.

    Args:
        values: metrics by name, 0-d; those under `loss/` and `train/rank_me` are looked at.
        update: after how many gradient steps.
        remedy: ends the message.

    Raises:
        DivergedError: there is one.
    """
    for name, value in values.items():
        if (name.startswith("loss/") or name == "train/rank_me") and not math.isfinite(value):
            raise DivergedError(f"{name} is {float(value)} after {update:,} updates: {remedy}")
