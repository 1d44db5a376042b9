"""Returns that other methods published, from published.yaml beside this file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

Kind = Literal["evaluation", "training"]
Count = Annotated[int, Field(gt=0)]


@dataclass(frozen=True)
class PublishedScore:
    """A mean episode return that a paper reports for one task.

    Attributes:
        method: its short name, for instance `CURL`.
        source: the paper.
        benchmark: the protocol, for instance `DMControl-100k`.
        task: canonical name, for instance `dmc/walker-walk`.
        frames: environment frames after which it was measured.
        action_repeat: frames each decision lasted.
        return_mean: mean episode return.
        kind: `evaluation` or `training` episodes.
    """

    method: str
    source: str
    benchmark: str
    task: str
    frames: int
    action_repeat: int
    return_mean: float
    kind: Kind


def published_scores(task: str, frames: int | None = None) -> list[PublishedScore]:
    """Scores published for a task.

    Args:
        task: canonical name, for instance `dmc/walker-walk`.
        frames: only scores measured after so many environment frames; None for all.

    Returns:
        Scores by frames, then by return; empty where nothing is known.
    """
    found = [score for score in _all_scores() if score.task == task and frames in (None, score.frames)]
    return sorted(found, key=lambda score: (score.frames, score.return_mean))


class _Method(BaseModel):
    model_config = ConfigDict(extra="forbid")
    method: str
    source: str
    returns: dict[str, float]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid")
    benchmark: str
    frames: Count
    kind: Kind
    action_repeat: dict[str, Count]
    methods: list[_Method]


@cache
def _all_scores() -> tuple[PublishedScore, ...]:
    text = resources.files("agent.evaluation").joinpath("published.yaml").read_text(encoding="utf-8")
    return tuple(
        PublishedScore(
            method=entry.method,
            source=entry.source,
            benchmark=table.benchmark,
            task=task,
            frames=table.frames,
            action_repeat=table.action_repeat[task],
            return_mean=score,
            kind=table.kind,
        )
        for table in TypeAdapter(list[_Table]).validate_python(yaml.safe_load(text))
        for entry in table.methods
        for task, score in entry.returns.items()
    )
