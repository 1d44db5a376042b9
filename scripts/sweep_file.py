"""The sweep that a file and flags ask for, with every name resolved and every option checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from configs.load import ConfigError
from configs.names import offered_names
from configs.relevance import check_counts
from configs.schema import Config
from configs.sweep import Sweep, make_sweep, read_sweep
from envs.registry import canonical_task, check_distractors
from scripts.options import resolve_auto


def sweep_from_flags(
    name: str | None,
    *,
    tasks: Sequence[str],
    variants: Sequence[str],
    seeds: Sequence[int],
    options: Sequence[str],
) -> Sweep:
    """A sweep file with flags in place of what it says.

    Args:
        name: a shipped sweep, or the path of a file; None: flags alone.
        tasks: empty: those of the file; likewise in what follows.
        variants: names of variants of the file, or `NAME=PRESET[,OPTION=VALUE...]`.
        seeds: of every task and variant.
        options: `OPTION=VALUE`, besides those of the file.

    Raises:
        ConfigError: there is no such file, or what it says with the flags is no sweep.
    """
    values = read_sweep(name) if name else {}
    if tasks:
        values["tasks"] = list(tasks)
    if seeds:
        values["seeds"] = list(seeds)
    if variants:
        known = _mapping(values.get("variants"))
        values["variants"] = dict(_variant(text, known) for text in variants)
    if options:
        values["options"] = _mapping(values.get("options")) | assignments(options, "--options")
    return make_sweep(values, name or "flags")


def assignments(texts: Sequence[str], where: str) -> dict[str, Any]:
    """`NAME=VALUE` as a mapping, with values as YAML reads them.

    Raises:
        ConfigError: one has no `=`, or no value that YAML reads.
    """
    pairs = [text.partition("=") for text in texts]
    if bare := [name for name, equals, _ in pairs if not equals]:
        raise ConfigError(f"{where} {bare[0]}: expected NAME=VALUE")
    try:
        return {name: yaml.safe_load(value) for name, _, value in pairs}
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} {' '.join(texts)} is not YAML: {' '.join(str(error).split())}") from error


def _mapping(value: Any) -> dict[str, Any]:
    """What a file holds where it should hold a mapping."""
    return value if isinstance(value, dict) else {}


def _variant(text: str, known: dict[str, Any]) -> tuple[str, Any]:
    """Name and options of what `--variants` names."""
    name, equals, rest = text.partition("=")
    if not equals:
        if name not in known:
            near = offered_names(name, known) if known else ""
            raise ConfigError(f"no variant {name!r}{near}; a new one is NAME=PRESET[,OPTION=VALUE...]")
        return name, known[name]
    preset, *changes = rest.split(",")
    return name, {"preset": preset, **assignments(changes, f"--variants {name}")}


def resolved_sweep(sweep: Sweep, *, is_local: bool) -> Sweep:
    """The same with canonical names of tasks, and presets that need no looking at the machine.

    Args:
        sweep: as it was asked for.
        is_local: whether this is the machine that runs it.

    Raises:
        ConfigError: an option of a variant is unknown, out of range or without effect, or `auto` depends on
            another machine.
        TaskError: there is no such task.
        DistractorError: a task cannot have the distractors of a variant.
    """
    variants = {
        name: {**sweep.variants[name], "preset": _preset(sweep, name, is_local)} for name in sweep.variants
    }
    options = {name: value for name, value in sweep.options.items() if name != "preset"}
    sweep = sweep.model_copy(update={"variants": variants, "options": options})
    configs = [sweep.config_of(name) for name in variants]
    imports = [module for config in configs for module in config.imports]
    tasks = [canonical_task(task, imports) for task in sweep.tasks]
    for task in tasks:
        for config in configs:
            check_distractors(task, config.distract)
    bare = sweep.model_copy(
        update={"variants": {name: {"preset": variants[name]["preset"]} for name in variants}}
    )
    for name, config in zip(variants, configs, strict=True):
        check_counts(config, bare.config_of(name), f"variant {name}: ")
        for what, path in (("encoder", config.encoder), ("run", config.from_run)):
            if is_local and path is not None and not Path(path).exists():
                raise ConfigError(f"variant {name}: there is no {what} {path}: check its path")
    return make_sweep(sweep.model_dump() | {"tasks": tasks}, "the sweep")


def _preset(sweep: Sweep, variant: str, is_local: bool) -> str:
    options = sweep.options_of(variant)
    preset, device = str(options.get("preset", Config().preset)), options.get("device", Config().device)
    if "auto" in preset.split("+") and device == "auto" and not is_local:
        raise ConfigError(
            f"variant {variant}: the preset auto looks for a GPU here, but its runs will be elsewhere: "
            "give --options device=cuda or device=cpu"
        )
    if not is_local and device == "cuda":  # no need to find one here
        return "+".join("gpu" if part == "auto" else part for part in preset.split("+"))
    return resolve_auto(preset, device)
