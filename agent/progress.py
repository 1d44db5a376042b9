"""Where a training run stands."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass
class Progress:
    """Where a run stands; all of it is in the checkpoint.

    An episode that was left out is not experience, and its frames are none of the run's. But records are
    written by frames, which must not go back: they are owed instead, and as many of those that follow are
    not counted. As long as something is owed, `frames` and `steps` are ahead of what was kept.

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
        owed_frames: frames that were counted and left out, and not yet replaced.
        owed_steps: decisions, likewise.
        restarts: environments that failed and were built again.
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
    owed_frames: int = 0
    owed_steps: int = 0
    restarts: int = 0

    @property
    def is_settled(self) -> bool:
        """Whether nothing is owed."""
        return not (self.owed_frames or self.owed_steps)

    def count(self, frames: int, *, is_random: bool) -> None:
        """Count a decision that lasted so many frames, or let it replace one that was left out."""
        replaced = min(self.owed_frames, frames)
        self.owed_frames -= replaced
        self.frames += frames - replaced
        if self.owed_steps:
            self.owed_steps -= 1
            return
        self.steps += 1
        self.random_steps += is_random

    def leave_out(self, frames: int, steps: int) -> None:
        """Owe frames and decisions that were counted."""
        self.owed_frames += frames
        self.owed_steps += steps
