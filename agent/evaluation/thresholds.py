"""What runs needed to reach a return, where some of them ended without it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike

from agent.evaluation.score_checks import Array, checked_curve

_HALF = Fraction(1, 2)


def frames_to_threshold(frames: ArrayLike, returns: ArrayLike, threshold: float) -> Array:
    """First frames of the grid at which the return is at least a threshold.

    Args:
        frames: (C,), strictly increasing.
        returns: (..., C).
        threshold: on the scale of the returns.

    Returns:
        (...) frames; inf for a curve that never gets there (censored: it might have, had it gone on).

    Raises:
        ValueError: as `area_under_curve`, for one point and more.
    """
    frames, returns = checked_curve(frames, returns, least_points=1)
    reached = returns >= threshold
    first: Array = np.where(reached.any(axis=-1), frames[reached.argmax(axis=-1)], np.inf)
    return first


@dataclass(frozen=True)
class CensoredMedian:
    """Frames that several runs needed to reach a threshold.

    Attributes:
        median: in frames, where the share of runs that have not reached it falls below a half; inf where
            it never does. Where it lies at exactly a half for a while, the middle of that while.
        censored: runs that ended without reaching it.
        runs: all runs.
    """

    median: float
    censored: int
    runs: int


def censored_median(frames: ArrayLike, ends: ArrayLike) -> CensoredMedian:
    """Summary of `frames_to_threshold` over runs, by Kaplan and Meier's estimate.

    A run that ended without the threshold says that it needed more than its own frames, and nothing else: it
    is at risk up to its end (inclusive) and gone afterwards. Where all of these ended after the others had
    reached it, the median is the ordinary one, with them as later than all.

    Args:
        frames: (R,), inf for a run that never reached it.
        ends: (R,), frames of each run's last evaluation, at which it is censored.

    Raises:
        ValueError: not one axis of the same length with a run at least, a NaN, an end that is not finite,
            or one before the frames.

    Source: Kaplan and Meier 1958, JASA 53(282), product-limit estimate. Where it lies at exactly a half,
        textbooks take the first of these frames; the middle is what the median of an even number of runs is.
    """
    needed, last = np.asarray(frames, dtype=np.float64), np.asarray(ends, dtype=np.float64)
    if needed.ndim != 1 or needed.size == 0 or np.isnan(needed).any():
        raise ValueError(f"expected frames (R,), R >= 1, without NaN, found {needed.tolist()}")
    reached = np.isfinite(needed)
    if last.shape != needed.shape or not np.isfinite(last).all() or (needed > last)[reached].any():
        raise ValueError(
            f"expected finite ends (R,), none before its frames {needed.tolist()}, found {last.tolist()}"
        )
    left = Fraction(1)  # share that has not reached it; exact, for it is compared with a half
    half_reached = math.inf
    for at in np.unique(needed[reached]):
        at_risk = int((np.where(reached, needed, last) >= at).sum())
        left *= 1 - Fraction(int((needed == at).sum()), at_risk)
        half_reached = min(half_reached, float(at)) if left <= _HALF else half_reached
        if left < _HALF:
            return _summary((half_reached + float(at)) / 2, reached)
    return _summary(math.inf, reached)


def _summary(median: float, reached: np.ndarray) -> CensoredMedian:
    return CensoredMedian(median, int((~reached).sum()), len(reached))
