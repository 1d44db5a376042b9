"""Pretraining from its first update, or from a checkpoint, to its last."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from agent import checkpoint
from agent.logger import Logger
from agent.stopping import StopRequest
from configs.pretrain import PretrainConfig
from world_model.divergence import check_finite
from world_model.pretrain.parallel import Group
from world_model.pretrain.samples import Samples, Views
from world_model.pretrain.source import Source
from world_model.pretrain.trainer import Trainer

COLLAPSED = 0.5
"""Of the RankMe at the start: below it, a warning is given."""
REMEDY = "lower --optimizer.learning-rate, and start afresh in another --out"


@dataclass
class Progress:
    """Where pretraining stands; all of it is in the checkpoint.

    Attributes:
        update: gradient steps that are done.
        seconds: training time, over all resumes.
        first_rank: RankMe of the latents before the first update.
        has_warned: whether a collapse was reported.
        data: fingerprint of what is learnt from.
        metrics: the newest.
    """

    update: int = 0
    seconds: float = 0.0
    first_rank: float = 0.0
    has_warned: bool = False
    data: str = ""
    metrics: dict[str, float] = field(default_factory=dict)


def pretrain(
    config: PretrainConfig,
    trainer: Trainer,
    source: Source,
    make_views: Callable[[int], Views],
    group: Group,
    *,
    device: torch.device,
    directory: Path,
    stop: StopRequest,
    data: str = "",
) -> Progress:
    """Learn until the last update, or until it is asked to stop.

    Args:
        config: what to do.
        trainer: of the method, on the device; every process has the same parameters.
        source: batches.
        make_views: the augmentations of an update.
        group: processes that share every batch.
        device: where the networks are.
        directory: where checkpoints and logs go; what was begun there goes on. Process 0 alone writes.
        stop: may ask all processes to save and end.
        data: fingerprint of the recording, which must stay the same.

    Raises:
        CheckpointError: the checkpoint to go on from is damaged, or is of other data.
        DivergedError: the loss is no number.
    """
    progress = _resume(trainer, directory / "checkpoints", data)
    with ExitStack() as stack:
        log = None
        if group.rank == 0:
            logging = config.logging
            at = progress.update
            log = Logger(directory, axis="updates", tensorboard=logging.tensorboard, start=at)
            stack.enter_context(log)
        start = time.monotonic() - progress.seconds
        bar = stack.enter_context(_bar(config, progress, group))
        for samples in _batches(source, progress.update, config.updates, group, stack):
            placed = samples.to(device)
            views = make_views(progress.update)
            if not progress.first_rank:
                progress.first_rank = float(trainer.rank(placed))
            values, rows = trainer.step(placed, views)
            progress.update, progress.seconds = trainer.update, time.monotonic() - start
            bar.update()
            if _is_due(progress.update, config.logging.every_updates, config.updates):
                values |= trainer.diagnose(placed, rows)
                check_finite(values, progress.update, REMEDY)
                _report(values, progress, log, bar)
            stopped = _anyone_stopped(stop, group, device)
            if stopped or _is_due(progress.update, config.logging.checkpoint_every_updates, config.updates):
                if group.rank == 0:
                    _save(trainer, progress, directory / "checkpoints")
            if stopped:
                break
    return progress


def _batches(source: Source, first: int, last: int, group: Group, stack: ExitStack) -> Iterator[Samples]:
    """Batches of all updates that are left; the next one is read while one is learnt from."""
    reader = stack.enter_context(ThreadPoolExecutor(1))
    coming = reader.submit(source.draw, first, group.rank, group.size) if first < last else None
    for update in range(first + 1, last + 1):
        assert coming is not None
        samples = coming.result()
        coming = reader.submit(source.draw, update, group.rank, group.size) if update < last else None
        yield samples


def _is_due(update: int, every: int, last: int) -> bool:
    return update % every == 0 or update == last


def _total(values: Mapping[str, Tensor]) -> float:
    return sum(float(value) for name, value in values.items() if name.startswith("loss/"))


def _report(
    values: dict[str, Tensor],
    progress: Progress,
    log: Logger | None,
    bar: tqdm[Any],
) -> None:
    """Write metrics, and warn once where the latents collapse."""
    progress.metrics = {name: float(value) for name, value in values.items()}
    if log is None:
        return
    log.scalars(progress.update, progress.metrics, seconds=progress.seconds)
    loss = _total(values)
    rank = progress.metrics["train/rank_me"]
    bar.set_postfix_str(f"loss {loss:.3f}, rank {rank:.1f}", refresh=False)
    if rank < COLLAPSED * progress.first_rank and not progress.has_warned:
        progress.has_warned = True
        print(
            f"\nnearfar: the latents collapse: RankMe was {progress.first_rank:.1f} at the start, "
            f"and is {rank:.1f} after {progress.update:,} updates",
            file=sys.stderr,
        )


def _anyone_stopped(stop: StopRequest, group: Group, device: torch.device) -> bool:
    """Whether any process was asked to stop: all of them end after the same update."""
    if group.size == 1:
        return stop.requested
    asked = torch.tensor([float(stop.requested)], device=device)
    group.add([asked])
    return bool(asked > 0)


def _resume(trainer: Trainer, directory: Path, data: str) -> Progress:
    path = checkpoint.latest(directory)
    if path is None:
        return Progress(data=data)
    state = checkpoint.load(path)
    if state["progress"]["data"] != data:
        raise checkpoint.CheckpointError(
            f"{path} has learnt from other data (fingerprint {state['progress']['data']}, now {data}): "
            "give the same episodes to go on, or another --out to start afresh"
        )
    trainer.load_state_dict(state["trainer"])
    return Progress(**state["progress"])


def _save(trainer: Trainer, progress: Progress, directory: Path) -> None:
    state = {"trainer": trainer.state_dict(), "progress": dict(vars(progress))}
    checkpoint.save(checkpoint.numbered(directory, progress.update), state)
    checkpoint.retain(directory)


def _bar(config: PretrainConfig, progress: Progress, group: Group) -> tqdm[Any]:
    is_shown = config.logging.progress and group.rank == 0
    return tqdm(
        total=config.updates,
        initial=progress.update,
        desc=config.method,
        unit="update",
        disable=None if is_shown else True,
    )
