"""`nearfar probe`: what encoders know of the state, beside random, raw and supervised features."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from pydantic import Field

from agent.atomic import write_atomically
from configs.load import ConfigError
from configs.options import NonNegative, Options
from scripts.options import parse_flags
from scripts.wiring import resolve_device

if TYPE_CHECKING:
    import torch

    from agent.evaluation.probe.data import ProbeData
    from agent.evaluation.probe.measures import Probe
    from envs.state import StateVariable
    from world_model.encoder_file import LoadedEncoder
    from world_model.probing import Features

RESERVED = ("random", "pixels", "supervised")


class ProbeOptions(Options):
    """What encoders know of the state, beside a random encoder, raw pixels and a supervised encoder."""

    encoder: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """PATH or NAME=PATH of an encoder's file, a run directory or a checkpoint; repeat it."""
    data: Path
    """Episode store, or a run directory."""
    out: Path | None = None
    """Where page, pictures and probe.json go; unset: numbers alone."""
    observations: Annotated[int, Field(ge=100)] = 20_000
    """About how many observations to take, of whole episodes."""
    supervised_updates: NonNegative = 1000
    """Gradient steps that the supervised encoder learns for; 0 leaves it out."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Of the split into episodes to fit on, to choose on and to test on, and of the supervised encoder."""
    imports: Annotated[tuple[str, ...], tyro.conf.arg(name="import"), tyro.conf.UseAppendAction] = ()
    """Module that registers the data's task with Gymnasium."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where encoders run."""
    as_json: Annotated[bool, tyro.conf.arg(name="json"), tyro.conf.FlagCreatePairsOff] = False
    """Print JSON alone."""


def main(arguments: Sequence[str]) -> int:
    """Probe; see `nearfar probe --help`."""
    options = parse_flags(ProbeOptions, "nearfar probe", arguments)
    named = named_paths(options.encoder)

    from agent.evaluation.probe.data import check_readable, open_store, read_data
    from agent.evaluation.probe.measures import probe, table, warn_beside, with_towers
    from agent.evaluation.probe.page import make_page
    from agent.loading import read_encoder
    from world_model.towers import find_towers

    device = resolve_device(options.device)
    loaded = {name: read_encoder(path) for name, path in named.items()}
    found = {name: find_towers(named[name], each.fingerprint) for name, each in loaded.items()}
    towers = {name: each for name, each in found.items() if each is not None}
    task = open_store(options.data).shared["task"]
    data = read_data(options.data, options.observations, _variables(task, options.imports), options.seed)
    for name, each in loaded.items():
        check_readable(name, each.encoder.facts, data)
    if options.out:
        _make(options.out)
    features, about = _features(loaded, data, options, device)
    probes = {name: probe(each, data) for name, each in features.items()}
    for name, heads in towers.items():
        probes[name] = with_towers(probes[name], heads, features[name], data)
    probes = warn_beside(probes)
    text = _as_text(probes, data, about)
    if options.out:
        write_atomically(options.out / "probe.json", f"{text}\n")
    print(text if options.as_json else table(probes))
    if options.out:
        _draw(features, data, options.out)
        page = options.out / "probe.html"
        write_atomically(page, make_page(probes, data, about, _pictures(options.out)))
        if not options.as_json:
            print(f"page  {page}")
    return 0


def _as_text(probes: Mapping[str, Probe], data: ProbeData, about: Mapping[str, str]) -> str:
    """All numbers as JSON, with what each encoder is in words."""
    from agent.evaluation.probe.measures import as_json

    found = as_json(probes, data)
    for name, words in about.items():
        found["encoders"][name]["about"] = words
    return json.dumps(found, indent=2)


def _pictures(out: Path) -> dict[str, Path]:
    return {
        "Nearest neighbours in other episodes": out / "neighbours.png",
        "Similarity of an episode's states to one another": out / "similarity.png",
        "Features on their two main directions": out / "map.png",
    }


def _draw(features: Mapping[str, Features], data: ProbeData, out: Path) -> None:
    from agent.evaluation.probe import pictures as pictures

    draws = pictures.draw_neighbours, pictures.draw_similarities, pictures.draw_maps
    for draw, path in zip(draws, _pictures(out).values(), strict=True):
        path.unlink(missing_ok=True)  # of an earlier probe
        draw(features, data, path)


def named_paths(texts: Sequence[str]) -> dict[str, Path]:
    """`NAME=PATH` or `PATH`, whose name is that of its file, or of its directory.

    Raises:
        ConfigError: two have one name, or the name of what stands beside the encoders.
    """
    if not texts:
        raise ConfigError("there is no encoder to probe: give --encoder PATH")
    found: dict[str, Path] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or not name or "/" in name:
            path, name = text, _name_of(Path(text))
        if name in found or name in RESERVED:
            raise ConfigError(f"--encoder {text}: the name {name} is taken: give OTHER-NAME={path}")
        found[name] = Path(path)
    return found


def _name_of(path: Path) -> str:
    absolute = path.absolute()
    is_usual = absolute.name == "encoder.safetensors"
    return absolute.parent.name if is_usual else absolute.stem if absolute.suffix else absolute.name


def _variables(task: str, imports: Sequence[str]) -> tuple[StateVariable, ...]:
    """What the entries of a task's physics state mean; nothing where the task is not to be had here."""
    from envs.registry import TaskError, make_env

    try:
        env = make_env(task, size=0, imports=imports)
    except TaskError:
        return ()
    variables: tuple[StateVariable, ...] = env.unwrapped.state_variables  # type: ignore[attr-defined]
    env.close()
    return variables


def _features(
    loaded: dict[str, LoadedEncoder], data: ProbeData, options: ProbeOptions, device: torch.device
) -> tuple[dict[str, Features], dict[str, str]]:
    """Features of all rows by encoder and by what stands beside them, and what each is in words.

    A random and a supervised encoder are built like the first one.
    """
    from agent.evaluation.probe.features import (
        RAW_SIDE,
        encoded,
        random_encoder,
        raw_pixels,
        supervised_encoder,
    )

    facts = next(iter(loaded.values())).encoder.facts
    features, about = {}, {}
    for name, each in loaded.items():
        features[name] = encoded(each.encoder, data, device)
        about[name] = f"{each.card.method} ({each.fingerprint})"
    features["random"] = encoded(random_encoder(facts), data, device)
    about["random"] = "the same architecture, never trained"
    if data.episodes[0].frame.size:
        features["pixels"] = raw_pixels(data, facts.stack)
        about["pixels"] = f"stacks of frames, {RAW_SIDE} pixels a side"
    if options.supervised_updates and data.variables:
        trained = supervised_encoder(facts, data, options.supervised_updates, device, options.seed)
        features["supervised"] = encoded(trained, data, device)
        about["supervised"] = f"the same architecture, {options.supervised_updates:,} updates on the state"
    return features, about


def _make(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{path} cannot be a directory ({error.strerror}): give another --out") from error
