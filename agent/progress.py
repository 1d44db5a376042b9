"""Where a training run stands, and how it is asked to end."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol


class StopRequest(Protocol):
    """Something that may ask the run to save and end."""

    requested: bool


@dataclass
class Progress:
    """Where a run stands; all of it is in the checkpoint.

    Attributes:
        frames: environment frames.
        steps: decisions.
        random_steps: those of them that were taken at random, before learning started.
        updates: gradient steps.
        seconds: training time without evaluation, over all resumes.
        episodes: episodes started in each environment.
        evaluate_at: frames of the next evaluation.
        evaluated_at: frames of the last one.
        save_at: frames of the next checkpoint.
        last_return: of the last training episode.
        best_return: of the best evaluation.
    """

    frames: int = 0
    steps: int = 0
    random_steps: int = 0
    updates: int = 0
    seconds: float = 0.0
    episodes: list[int] = field(default_factory=list)
    evaluate_at: int = 0
    evaluated_at: int = 0
    save_at: int = 0
    last_return: float = 0.0
    best_return: float = -math.inf
