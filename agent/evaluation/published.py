"""Returns that other methods published, from published.yaml beside this file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, model_validator

DMCONTROL_100K = "DMControl-100k"

Kind = Literal["evaluation", "training"]
Count = Annotated[int, Field(gt=0)]


@dataclass(frozen=True)
class PublishedScore:
    """A mean episode return that is published for one task.

    Attributes:
        method: its short name, for instance `CURL`.
        source: the paper that introduced the method.
        benchmark: the protocol, for instance `DMControl-100k` or `DMC vision`.
        task: canonical name, for instance `dmc/walker-walk`.
        frames: environment frames after which it was measured.
        action_repeat: frames each decision lasted; None where that is not known.
        return_mean: mean episode return.
        kind: `evaluation` or `training` episodes.
        data: repository and file from which it was read; None if from a paper.
        return_std: deviation of the seeds' returns, where known.
        seeds: their number, where known.
    """

    method: str
    source: str
    benchmark: str
    task: str
    frames: int
    action_repeat: int | None
    return_mean: float
    kind: Kind
    data: str | None = None
    return_std: float | None = None
    seeds: int | None = None


def published_scores(
    task: str, frames: int | None = None, benchmark: str | None = DMCONTROL_100K
) -> list[PublishedScore]:
    """Scores published for a task.

    Args:
        task: canonical name, for instance `dmc/walker-walk`.
        frames: only scores measured after so many environment frames; None for all.
        benchmark: only scores of that protocol, one of `published_benchmarks()`; None for all. One method
            may stand in several, with other action repeats.

    Returns:
        Scores by frames, then by return; empty where nothing is known.
    """
    found = [
        score
        for score in _all_scores()
        if score.task == task and frames in (None, score.frames) and benchmark in (None, score.benchmark)
    ]
    return sorted(found, key=lambda score: (score.frames, score.return_mean))


def published_benchmarks() -> tuple[str, ...]:
    """Names of the protocols, in the order of the file."""
    return tuple(dict.fromkeys(score.benchmark for score in _all_scores()))


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Returns(_Entry):
    """One number for each of the table's frames."""

    mean: list[float]
    std: list[float] | None = None
    seeds: list[Count] | Count | None = None

    def at(self, index: int) -> dict[str, Any]:
        """Mean, deviation and seeds after the table's frames of that index."""
        seeds = self.seeds[index] if isinstance(self.seeds, list) else self.seeds
        std = None if self.std is None else self.std[index]
        return {"return_mean": self.mean[index], "return_std": std, "seeds": seeds}


def _bare_mean(value: object) -> object:
    return {"mean": [value]} if isinstance(value, int | float) else value


class _Method(_Entry):
    method: str
    source: str = Field(min_length=1)
    data: str | None = None
    returns: dict[str, Annotated[_Returns, BeforeValidator(_bare_mean)]]


class _Table(_Entry):
    benchmark: str
    frames: list[Count]
    kind: Kind
    action_repeat: Count | dict[str, Count] | None
    methods: list[_Method]

    @model_validator(mode="after")
    def _fits(self) -> _Table:
        for entry in self.methods:
            for task, row in entry.returns.items():
                columns = (row.mean, row.std, row.seeds)
                found = [len(column) for column in columns if isinstance(column, list)]
                if set(found) != {len(self.frames)}:
                    raise ValueError(
                        f"{entry.method}, {task}: expected {len(self.frames)} numbers, found {found}"
                    )
                if isinstance(self.action_repeat, dict) and task not in self.action_repeat:
                    raise ValueError(f"{entry.method}, {task}: action_repeat does not have the task")
        return self

    def scores(self) -> Iterator[PublishedScore]:
        """All scores of the table."""
        for entry in self.methods:
            for task, row in entry.returns.items():
                repeat = self.action_repeat
                for index, frames in enumerate(self.frames):
                    yield PublishedScore(
                        method=entry.method,
                        source=entry.source,
                        benchmark=self.benchmark,
                        task=task,
                        frames=frames,
                        action_repeat=repeat[task] if isinstance(repeat, dict) else repeat,
                        kind=self.kind,
                        data=entry.data,
                        **row.at(index),
                    )


def parse_published(text: str) -> tuple[PublishedScore, ...]:
    """Scores of a YAML text in the layout of published.yaml.

    Args:
        text: a list of tables.

    Raises:
        ValueError: a key is missing or unknown, a value is none of its kind, or a row does not have one
            number for each of the table's frames (the message names it).
    """
    tables = TypeAdapter(list[_Table]).validate_python(yaml.safe_load(text))
    return tuple(score for table in tables for score in table.scores())


@cache
def _all_scores() -> tuple[PublishedScore, ...]:
    path = resources.files("agent.evaluation").joinpath("published.yaml")
    return parse_published(path.read_text(encoding="utf-8"))
