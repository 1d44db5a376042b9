"""What a sweep will take, from a few measured figures (`measured.yaml`) and from its runs that have finished.

A run takes its decisions times what a decision and its updates take, and as much for the decisions of its
evaluations. The figures are those of one machine; other sizes are scaled in proportion. Expect to be off by
half, until a run of the sweep has finished, whose time then stands for the others.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml
from pydantic import BaseModel, ConfigDict

from agent.sweeps.ledger import PlannedRun, RunRecord
from configs.schema import Config

EPISODE_FRAMES = 1000
"""Of a customary episode."""

_PRESET_CPU = Config()  # the figures are of the schema's own sizes
_KEPT_CHECKPOINTS = 2


class _ByThreads(BaseModel):
    model_config = ConfigDict(extra="forbid")
    alone: float
    one_thread: float


class _Measured(BaseModel):
    model_config = ConfigDict(extra="forbid")
    update_ms: _ByThreads
    decision_ms: _ByThreads
    share_without_pixels: float
    objectives: dict[str, float]
    smallest_update_ms: float
    smallest_decision_ms: float
    start_s: float
    memory_mb: float
    checkpoint_mb: float
    video_kb_per_decision: float


@dataclass(frozen=True)
class Cost:
    """What a run takes.

    Attributes:
        seconds: from start to end; None: nothing like it has been measured (a GPU).
        memory_mb: resident, at the end.
        disk_mb: of its directory, at the end.
        updates: gradient steps.
    """

    seconds: float | None
    memory_mb: float
    disk_mb: float
    updates: int


def estimate(config: Config, action_repeat: int, threads: int, *, on_gpu: bool = False) -> Cost:
    """What a run will take, roughly.

    Args:
        config: of the run.
        action_repeat: frames a decision lasts.
        threads: of its computation.
        on_gpu: whether its networks are on a GPU.
    """
    measured, training, evaluation = _measured(), config.training, config.evaluation
    decisions = config.frames / action_repeat
    learning = max(0.0, decisions - training.random_frames / action_repeat)
    updates = training.first_updates + int(learning * training.updates_per_step) if learning else 0
    episode = EPISODE_FRAMES / action_repeat
    evaluations = math.ceil(config.frames / evaluation.every_frames)
    update_s, decision_s = _update_s(config, threads), _decision_s(config, threads)
    seconds = measured.start_s + updates * update_s
    seconds += (learning + evaluations * evaluation.episodes * episode) * decision_s
    frame_mb = 3 * config.size**2 / 1e6 if config.sees_pixels else 0.0
    kept = config.frames // config.logging.keep_every_frames if config.logging.keep_every_frames else 0
    width = config.world_model.hidden_dim / _PRESET_CPU.world_model.hidden_dim
    disk_mb = decisions * frame_mb + (kept + _KEPT_CHECKPOINTS) * measured.checkpoint_mb * width
    disk_mb += evaluation.videos * evaluations * episode * measured.video_kb_per_decision / 1e3
    return Cost(
        seconds=None if on_gpu else seconds,
        memory_mb=measured.memory_mb + min(decisions, config.replay.capacity) * frame_mb,
        disk_mb=disk_mb,
        updates=updates,
    )


def expected_seconds(
    records: Iterable[RunRecord], costs: Mapping[str, Cost]
) -> Callable[[PlannedRun], float | None]:
    """How long a run takes, by the runs of the sweep that have finished, or else by the estimate.

    A finished run stands for others by what it took against its estimate: those of its own task and variant
    where there are any, of its task otherwise, of its variant otherwise, or of any. One that was interrupted
    does not count, because the end of an attempt that was killed is not on record.

    Args:
        records: of the sweep.
        costs: by a run's key.

    Returns:
        A function of a run: expected seconds from start to end; None: nothing like it was measured.
    """
    ratios: dict[tuple[str, str], list[float]] = defaultdict(list)
    for record in records:
        if record.state == "finished" and record.attempts == 1 and record.seconds:
            for kind in _kinds(record.run):
                ratios[kind].append(record.seconds / _size(costs[record.run.key]))

    def seconds(run: PlannedRun) -> float | None:
        for kind in _kinds(run):
            if kind in ratios:
                return statistics.fmean(ratios[kind]) * _size(costs[run.key])
        return costs[run.key].seconds

    return seconds


def _kinds(run: PlannedRun) -> list[tuple[str, str]]:
    """What a run may have in common with others, from much to nothing."""
    return [(run.task, run.variant), (run.task, ""), ("", run.variant), ("", "")]


def _size(cost: Cost) -> float:
    """What time is in proportion to: its estimate, or updates where there is none."""
    return max(1.0, cost.updates if cost.seconds is None else cost.seconds)


def total_seconds(seconds: Iterable[float], jobs: int) -> float:
    """When the last of these runs ends, if each starts as soon as one of `jobs` places is free."""
    ends = [0.0] * jobs
    for each in seconds:
        earliest = ends.index(min(ends))
        ends[earliest] += each
    return max(ends)


def _update_s(config: Config, threads: int) -> float:
    measured, model = _measured(), config.world_model
    usual = _PRESET_CPU.world_model
    batch = config.training.batch_size / _PRESET_CPU.training.batch_size
    pixels = (config.size / _PRESET_CPU.size) ** 2 * model.encoder.channels / usual.encoder.channels
    without = measured.share_without_pixels
    share = without * model.hidden_dim / usual.hidden_dim + (1 - without) * pixels * config.sees_pixels
    full_ms = measured.update_ms.one_thread if threads == 1 else measured.update_ms.alone
    full_ms *= measured.objectives.get(model.objective, 1.0)
    return max(measured.smallest_update_ms, full_ms * batch * share) / 1e3


def _decision_s(config: Config, threads: int) -> float:
    """Of a search of the usual size; in evaluations, too, where those side by side are searched together."""
    measured, planner, usual = _measured(), config.planner, _PRESET_CPU.planner
    full_ms = measured.decision_ms.one_thread if threads == 1 else measured.decision_ms.alone
    size = planner.samples * planner.iterations * planner.horizon
    share = size / (usual.samples * usual.iterations * usual.horizon)
    share *= config.world_model.hidden_dim / _PRESET_CPU.world_model.hidden_dim
    searched_ms = 0.0 if planner.control == "policy" else full_ms * share
    return max(measured.smallest_decision_ms, searched_ms) / 1e3


@cache
def _measured() -> _Measured:
    text = resources.files("agent.sweeps").joinpath("measured.yaml").read_text(encoding="utf-8")
    return _Measured.model_validate(yaml.safe_load(text))
