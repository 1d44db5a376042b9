"""Sweep files: tasks x variants x seeds, as YAML (`sweeps/*.yaml`, or a user's own).

    tasks: [dmc/cartpole-swingup, dmc/reacher-easy]
    seeds: [1, 2, 3]
    options: {frames: 40000}                  # of all runs
    variants:
      contrastive: cpu                        # a preset,
      queue: {preset: cpu+queue, world_model.queue: 4096}   # or a preset and what differs from it

Options have dotted names, or stand in groups as in a preset. Those of a variant have the last word.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from configs.load import ConfigError, configure, flatten, read_values, validated
from configs.names import offered_names
from configs.options import Options
from configs.schema import Config

SWEEP_DIRECTORY = Path(__file__).parent / "sweeps"

_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")

# What tells the runs of a sweep apart, or is the same for all of them.
_OWNED = {
    "task": "list it under tasks",
    "seed": "list it under seeds",
    "out": "runs live in the sweep's directory",
    "logging.progress": "the sweep shows the progress of all runs",
}


def _dotted(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("-", "_"): value for name, value in flatten(options).items()}


def _named_preset(value: Any) -> Any:
    return {"preset": value} if isinstance(value, str) else value


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if twice := [value for i, value in enumerate(values) if value in values[:i]]:
        raise ValueError(f"{twice[0]} is listed twice")
    return values


Seed = Annotated[int, Field(ge=0, lt=2**32)]
OptionValues = Annotated[dict[str, Any], AfterValidator(_dotted)]


class Sweep(Options):
    """Tasks x variants x seeds."""

    tasks: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_distinct)]
    """Names of tasks."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1), AfterValidator(_distinct)]
    """Seeds that every task and variant is run with."""
    options: OptionValues = Field(default_factory=dict)
    """Options of all runs, by dotted name."""
    variants: Annotated[
        dict[str, Annotated[OptionValues, BeforeValidator(_named_preset)]], Field(min_length=1)
    ]
    """Name of a variant -> its options, among them its preset."""

    @model_validator(mode="after")
    def _variants_can_be_folders(self) -> Sweep:
        for name in self.variants:
            if not _FOLDER.fullmatch(name):
                raise ValueError(f"variant {name!r} cannot name a folder: use letters, digits, and . _ + -")
        return self

    @model_validator(mode="after")
    def _leaves_alone_what_is_the_sweeps(self) -> Sweep:
        for where, options in {"options": self.options, **self.variants}.items():
            for name in (name for name in _OWNED if name in options):
                raise ValueError(f"{where} may not set {name}: {_OWNED[name]}")
        return self

    def options_of(self, variant: str) -> dict[str, Any]:
        """The options of a variant's runs by dotted name, `preset` among them where one is given."""
        return self.options | self.variants[variant]

    def config_of(self, variant: str) -> Config:
        """The configuration of a variant's runs, with the schema's task and seed.

        Raises:
            ConfigError: there is no such preset or option, or a value is out of range.
        """
        options = self.options_of(variant)
        preset = options.pop("preset", Config().preset)
        return configure(str(preset), options, f"variant {variant}")


def sweep_names() -> list[str]:
    """Names of the sweeps that ship with nearfar, sorted."""
    return sorted(path.stem for path in SWEEP_DIRECTORY.glob("*.yaml"))


def read_sweep(name: str) -> dict[str, Any]:
    """What a sweep file holds, not yet validated, so that flags may replace some of it.

    Args:
        name: a shipped sweep (`smoke`), or the path of a YAML file.

    Raises:
        ConfigError: there is no such sweep, or the file holds no mapping.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        if name not in sweep_names():
            near = offered_names(name, sweep_names())
            raise ConfigError(f"unknown sweep {name!r}{near}, or give the path of a .yaml file")
        path = SWEEP_DIRECTORY / f"{name}.yaml"
    return read_values(path)


def make_sweep(values: Mapping[str, Any], source: str) -> Sweep:
    """A validated sweep.

    Args:
        values: as a sweep file holds them.
        source: where they stand, for the message of an error.

    Raises:
        ConfigError: something is missing, unknown, or out of range.
    """
    return validated(Sweep, values, source)
