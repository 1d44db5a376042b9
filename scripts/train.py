"""`nearfar train`: trains an agent, or lets an interrupted run go on."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from configs.load import ConfigError
from configs.schema import Config
from scripts.options import parse_config
from scripts.run_directory import held_run_directory, note_changes
from scripts.wiring import (
    check_task,
    choose_backend,
    configure_torch,
    make_evaluation_pool,
    make_task_pool,
    relabelling,
    resolve_device,
)

if TYPE_CHECKING:
    import torch

    from agent.loading import Predecessor
    from agent.loop import TrainingResult
    from envs.rendering import Backend
    from envs.spec import EnvSpec
    from world_model.encoder_file import LoadedEncoder

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

PUBLISHED_FRAMES = 100_000
"""Published figures are shown for this many frames: the DMControl-100k benchmark."""


class StopFlag:
    """Inside its `with` block, turns SIGTERM and a first SIGINT into a request; a second SIGINT interrupts.

    Attributes:
        requested: whether the run should save and end.
        signal_number: what asked for it; 0 as long as nothing did.
    """

    def __init__(self) -> None:
        """Nothing is requested yet."""
        self.requested = False
        self.signal_number = 0

    def __enter__(self) -> StopFlag:
        """Take over both signals."""
        self._before = {number: signal.signal(number, self._request) for number in _STOP_SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        """Give them back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested, self.signal_number = True, number
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print("\nsaving; Ctrl-C stops at once", file=sys.stderr)


def main(arguments: Sequence[str]) -> int:
    """Train; see `nearfar train --help`.

    Returns:
        0, or 130 or 143 where a signal ended the run after saving.
    """
    config = parse_config(Config, "nearfar train", arguments)
    device = resolve_device(config.device)
    configure_torch(config.training)

    backend = choose_backend(needed=config.sees_pixels)
    if backend is None and config.evaluation.videos:
        print("nothing can be drawn here, so there will be no videos: see nearfar doctor", file=sys.stderr)
    run_dir = run_directory(config)
    with held_run_directory(run_dir, config), StopFlag() as stop:
        result = _train(config, run_dir, device, backend, stop)
        if not result.finished:
            print("saved; the same command goes on from the last episode that was complete")
            return 128 + stop.signal_number
        print(_closing_report(config, run_dir, result.restarts))
    return 0


def run_directory(config: Config) -> Path:
    """Where the run lives: `--out`, or a directory named after task, preset and seed."""
    return Path(config.out or Path("runs", config.task, config.preset, f"seed-{config.seed}"))


def _train(
    config: Config, run_dir: Path, device: torch.device, backend: Backend | None, stop: StopFlag
) -> TrainingResult:
    """Make the environments and hand everything to the loop."""
    from agent import checkpoint
    from agent.carried_episodes import forget
    from agent.loop import Loop
    from agent.seeding import Streams
    from scripts.manifest import changes_since, make_manifest, with_earlier

    pictures = config.evaluation.videos and backend is not None
    with (
        make_task_pool(config, config.envs) as pool,
        make_evaluation_pool(config, config.evaluation.episodes, pictures=pictures) as eval_pool,
    ):
        check_task(config, pool.env_spec)
        goes_on = checkpoint.latest(run_dir / "checkpoints") is not None  # and holds what it started from
        start = None if goes_on else _starting_encoder(config, pool.env_spec)
        predecessor = None if goes_on else _predecessor(config, pool.env_spec)
        if not goes_on:
            forget(run_dir)
        manifest = make_manifest(config, pool.env_spec, device, backend)
        if start is not None:
            manifest["encoder"] = {"path": config.encoder, "fingerprint": start.fingerprint}
        if predecessor is not None:
            carried = _carry_over(predecessor, run_dir, config, stop)
            manifest["from"] = predecessor.facts | {"episodes": carried}
        manifest = with_earlier(manifest, run_dir / "manifest.json", goes_on=goes_on)
        note_changes("this run", changes_since(manifest))
        with Loop(
            config,
            run_dir,
            device,
            pool,
            eval_pool,
            Streams(config.seed),
            encoder=None if start is None else start.encoder,
            predecessor=predecessor,
        ) as loop:
            loop.announce(manifest)
            return loop.run(stop)


def _starting_encoder(config: Config, env_spec: EnvSpec) -> LoadedEncoder | None:
    """The encoder that the agent starts from, if any."""
    from agent.loading import read_encoder
    from agent.warm_start import check_encoder_fits

    if config.encoder is None:
        return None
    loaded = read_encoder(config.encoder)
    check_encoder_fits(loaded.encoder.facts, env_spec, config)
    return loaded


def _predecessor(config: Config, env_spec: EnvSpec) -> Predecessor | None:
    """The run that this one starts from, if any."""
    from agent.loading import read_predecessor
    from agent.warm_start import check_run_fits

    if config.from_run is None:
        return None
    predecessor = read_predecessor(config.from_run)
    check_run_fits(predecessor, env_spec, config)
    return predecessor


def _carry_over(predecessor: Predecessor, run_dir: Path, config: Config, stop: StopFlag) -> int:
    """Take its episodes over, and say how many there were."""
    from agent.carried_episodes import carry_over
    from envs.relabelling import RelabellingError

    if config.from_replay == "none":
        return 0
    if predecessor.env_spec.task == config.task:
        return carry_over(predecessor, run_dir, config, None, stop)
    try:
        with relabelling(config, predecessor.env_spec.action_repeat) as relabel:
            return carry_over(predecessor, run_dir, config, relabel, stop)
    except RelabellingError as error:
        raise ConfigError(f"{error}; carry its model over alone: --from-replay none") from error


def _closing_report(config: Config, run_dir: Path, restarts: int) -> str:
    """Draw the curve; the table of results, and where to look next."""
    from agent.evaluation.comparison.learning_curve import draw_learning_curve, results_table
    from agent.evaluation.comparison.reading import read_runs
    from agent.evaluation.comparison.sources import Input
    from agent.evaluation.published import published_scores

    run_set = read_runs([Input(run_dir)])
    for note in run_set.notes:
        print(f"nearfar: {note}", file=sys.stderr)
    lines = []
    for run in run_set.curves:
        picture = run_dir / "learning-curve.png"
        draw_learning_curve([run], published_scores(config.task, PUBLISHED_FRAMES), picture)
        lines += ["", results_table([run]), "", f"learning curve  {picture}"]
        if not run.trace.updates[-1]:
            random = config.training.random_frames
            lines.insert(0, f"nothing was learnt: raise --frames above --training.random-frames, {random:,}")
    if restarts:
        lines.append(f"restarts        {restarts}, of environments that failed")
    videos = sorted((run_dir / "videos").glob("*.gif"))
    if videos:
        lines.append(f"last video      {videos[-1]}")
    if config.logging.tensorboard:
        # In this form it runs whether the environment is activated or not.
        python = _as_seen_from_here(Path(sys.executable))
        lines.append(f"tensorboard     {python} -m tensorboard.main --logdir {run_dir / 'tensorboard'}")
    return "\n".join(lines)


def _as_seen_from_here(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
