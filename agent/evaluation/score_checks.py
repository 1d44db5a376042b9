"""What scores and curves have to look like; every message says what was expected and what was found."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def checked_scores(name: str, scores: ArrayLike, axes: str = "RT", least_runs: int = 1) -> Array:
    """Scores as float64 with the axes of these letters, none empty, all finite, R >= `least_runs`.

    Raises:
        ValueError: they are not so.
    """
    array = np.asarray(scores, dtype=np.float64)
    wanted = f"{name} ({', '.join(axes)})"
    if array.ndim != len(axes) or array.size == 0:
        remedy = " (for one task, pass scores[:, None])" if (array.ndim, len(axes)) == (1, 2) else ""
        raise ValueError(f"expected {wanted}, none of them 0, found shape {array.shape}{remedy}")
    if len(array) < least_runs:
        raise ValueError(f"expected {wanted} with R >= {least_runs} runs, found shape {array.shape}")
    return _finite(name, array)


def checked_curve(frames: ArrayLike, returns: ArrayLike, least_points: int) -> tuple[Array, Array]:
    """Frames (C,), strictly increasing, and returns (..., C), all finite, C >= `least_points`.

    Raises:
        ValueError: they are not so.
    """
    frames, returns = np.asarray(frames, dtype=np.float64), np.asarray(returns, dtype=np.float64)
    if frames.ndim != 1 or returns.ndim == 0 or returns.shape[-1] != len(frames):
        raise ValueError(
            f"expected frames (C,) and returns (..., C), found {frames.shape} and {returns.shape}"
        )
    if len(frames) < least_points:
        raise ValueError(f"expected C >= {least_points} points of a curve, found {len(frames)}")
    steps = np.diff(_finite("frames", frames))
    if (steps <= 0).any():
        place = int(np.argmax(steps <= 0))
        raise ValueError(
            f"expected strictly increasing frames, found {frames[place]:g} before {frames[place + 1]:g}"
        )
    return frames, _finite("returns", returns)


def check_confidence(confidence: float) -> None:
    """A share between none and all."""
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence between 0 and 1, found {confidence}")


def check_resampling(confidence: float, resamples: int) -> None:
    """Options of a bootstrap."""
    check_confidence(confidence)
    if resamples < 1:
        raise ValueError(f"expected resamples >= 1, found {resamples}")


def _finite(name: str, array: Array) -> Array:
    unfit = ~np.isfinite(array)
    if unfit.any():
        first = tuple(int(index) for index in np.argwhere(unfit)[0])
        raise ValueError(
            f"expected finite {name}, found {int(unfit.sum())} of {array.size} that are not, "
            f"the first {array[first]} at {first}"
        )
    return array
