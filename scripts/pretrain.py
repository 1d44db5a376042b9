"""`nearfar pretrain`: an encoder from recorded episodes, in one process or several (torchrun)."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from configs.load import ConfigError
from configs.pretrain import ModelOptions, PretrainConfig
from configs.schema import SMALLEST_FRAME
from configs.views import find_recipe
from configs.world_model import EncoderOptions
from scripts.options import parse_flags
from scripts.run_directory import held_pretrain_directory
from scripts.train import StopFlag
from scripts.wiring import configure_threads, resolve_device

if TYPE_CHECKING:
    import torch

    from envs.windows import EpisodeReader
    from world_model.encoder_file import EncoderCard
    from world_model.pretrain.loop import Progress
    from world_model.pretrain.parallel import Group
    from world_model.pretrain.trainer import Trainer


PREVIEWED = 12  # observations in a preview


class PretrainFlags(PretrainConfig):
    """Pretraining of an encoder on recorded episodes."""

    preview: Annotated[Path | None, tyro.conf.arg(metavar="PNG")] = None
    """Only draw what views look like, into this picture."""


def main(arguments: Sequence[str]) -> int:
    """Pretrain; see `nearfar pretrain --help`.

    Returns:
        0, or 130 or 143 where a signal ended it after saving.
    """
    flags = _parse(arguments)
    config = PretrainConfig(**{name: getattr(flags, name) for name in PretrainConfig.model_fields})
    if not config.data:
        raise ConfigError("nothing to learn from: give --data, a folder of episodes or a run directory")
    reader = open_data(config.data)
    _check_data(config, reader.shared)
    if flags.preview is not None:
        _preview(config, reader, flags.preview)
        return 0
    configure_threads(config.threads)
    with _group(config) as (group, device):
        directory = Path(config.out or Path("runs", "pretrain", config.method, f"seed-{config.seed}"))
        held = held_pretrain_directory(directory, config) if group.rank == 0 else nullcontext()
        with held, StopFlag() as stop:
            trainer, progress = _pretrain(config, reader, group, device, directory, stop)
            if progress.update < config.updates:
                if group.rank == 0:
                    print("saved; the same command goes on from there")
                return 128 + (stop.signal_number or 15)
            if group.rank == 0:
                _finish(trainer, progress, _card(config, reader, progress), directory)
    return 0


def _parse(arguments: Sequence[str]) -> PretrainFlags:
    """Flags over the recipe that they name."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    first.add_argument("--recipe", default=PretrainConfig().recipe)
    try:
        chosen, _ = first.parse_known_args(arguments)
    except argparse.ArgumentError:  # a flag without its value: tyro explains it
        return parse_flags(PretrainFlags, "nearfar pretrain", arguments)
    try:
        views = find_recipe(chosen.recipe)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    model = ModelOptions(encoder=EncoderOptions(crop=views.crop))  # which sees what the views show
    default = PretrainFlags(views=views, model=model)
    return parse_flags(PretrainFlags, "nearfar pretrain", arguments, default)


def open_data(paths: Sequence[str]) -> EpisodeReader:
    """Episodes of folders and of run directories, which have them in `episodes/`.

    Raises:
        EpisodeError: there are none, or they do not fit together.
    """
    from envs.episodes import EpisodeStore
    from envs.windows import EpisodeReader

    folders = [Path(path, "episodes") if Path(path, "episodes").is_dir() else Path(path) for path in paths]
    return EpisodeReader(*map(EpisodeStore, folders))


def _check_data(config: PretrainConfig, shared: Mapping[str, Any]) -> None:
    """Find out what the episodes lack, before anything is begun."""
    from envs.registry import has_sides
    from world_model.views.parameters import view_size

    _, height, width = shared["frame_shape"]
    sees_pixels = "pixels" in config.obs
    if not height and config.method in ("reconstruction", "clip"):
        raise ConfigError(
            f"these episodes have no frames, which {config.method} needs: "
            "choose another --method, or record some with frames"
        )
    if not height and sees_pixels:
        raise ConfigError("these episodes have no frames: use --obs state, or record some with frames")
    if not shared.get("proprio_dim") and ("state" in config.obs or config.method in ("supervised", "clip")):
        raise ConfigError(
            f"these episodes have no observation vectors, which {config.method} with obs {config.obs} needs: "
            "choose another method or obs"
        )
    if config.views.flip and has_sides(task := shared["task"]):
        raise ConfigError(
            f"views.flip: {task} has sides, and mirrored frames show none of its states "
            "(docs/views.md says which tasks have none): set it to 0"
        )
    try:
        view_size(config.views, (height, width) if sees_pixels else (SMALLEST_FRAME, SMALLEST_FRAME))
    except ValueError as error:
        raise ConfigError(f"views: {error}") from error


@contextmanager
def _group(config: PretrainConfig) -> Iterator[tuple[Group, torch.device]]:
    """The processes that torchrun started, or this one alone, and the device of each."""
    import torch
    import torch.distributed as dist

    from world_model.pretrain.parallel import Alone, Ranks

    size = int(os.environ.get("WORLD_SIZE", "1"))
    if config.batch.size % size:
        raise ConfigError(f"batch.size {config.batch.size} does not split evenly over {size} processes")
    device = resolve_device(config.device)
    if size == 1:
        yield Alone(), device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Ranks(), device
    finally:
        dist.destroy_process_group()


def _pretrain(
    config: PretrainConfig,
    reader: EpisodeReader,
    group: Group,
    device: torch.device,
    directory: Path,
    stop: StopFlag,
) -> tuple[Trainer, Progress]:
    """Build everything and hand it to the loop."""
    import torch

    from world_model.pretrain.loop import pretrain
    from world_model.pretrain.registry import make_method
    from world_model.pretrain.source import Source, env_spec_of
    from world_model.pretrain.trainer import Trainer
    from world_model.pretrain.views import KeyedViews, Unchanged

    env_spec = env_spec_of(reader.shared, config, int(reader.lengths.max()) - 1)
    torch.manual_seed(config.seed)
    method = make_method(config.method, env_spec, config.obs, config.model.world_model(), config.pairs)
    method.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its types
    make_views = partial(KeyedViews, config.views, config.model.encoder, config.seed)
    trainer = Trainer(method, config, group)
    progress = pretrain(
        config,
        trainer,
        Source(reader, config),
        make_views if config.is_windowed or config.positives.by != "time" else lambda update: Unchanged(),
        group,
        device=device,
        directory=directory,
        stop=stop,
        data=reader.fingerprint,
    )
    return trainer, progress


def _card(config: PretrainConfig, reader: EpisodeReader, progress: Progress) -> EncoderCard:
    from scripts.machine import versions
    from world_model.encoder_file import EncoderCard

    return EncoderCard(
        method=config.method,
        data={
            "paths": list(config.data),
            "episodes": len(reader.lengths),
            "observations": int(reader.lengths.sum()),
            "fingerprint": reader.fingerprint,
            **reader.shared,
        },
        config=config.model_dump(mode="json"),
        metrics=progress.metrics | {"updates": progress.update, "seconds": round(progress.seconds, 1)},
        versions={name: version for name, version in versions().items() if version},
    )


def _finish(trainer: Trainer, progress: Progress, card: EncoderCard, directory: Path) -> None:
    """Write the encoder, and say where it is."""
    from world_model import towers
    from world_model.encoder_file import FILE_NAME, save_encoder
    from world_model.pretrain.clip import CLIP

    path = directory / FILE_NAME
    if isinstance(trainer.method, CLIP):
        towers.save_towers(directory / towers.FILE_NAME, trainer.method.towers(), card)
    save_encoder(path, trainer.method.encoder, card)
    shown = ", ".join(
        f"{name.removeprefix('train/')} {value:.3g}"
        for name, value in progress.metrics.items()
        if name.startswith("train/") and name != "train/gradient_norm"
    )
    print(f"{progress.update:,} updates in {progress.seconds:,.0f} s: {shown}")
    print(f"encoder  {path}\nuse it   nearfar train --encoder {path}")


def _preview(config: PretrainConfig, reader: EpisodeReader, path: Path) -> None:
    """Draw some observations and two views of each."""
    import numpy as np
    import torch

    from agent.evaluation.view_previews import draw_preview
    from envs.positions import WindowSampler

    rng = np.random.default_rng(config.seed)
    episode, time = WindowSampler(reader.lengths, 1).sample(PREVIEWED, rng)
    stacks = torch.from_numpy(reader.stacks(episode, time, config.stack))
    try:
        draw_preview(stacks, config.views, path, seed=config.seed)
    except OSError as error:
        raise ConfigError(f"cannot write --preview {path} ({error.strerror}): give another path") from error
    print(f"views  {path}")
