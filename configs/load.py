"""Presets and saved options: YAML in, validated models out, above all `Config`.

Every mistake in a file or a value ends in a `ConfigError` whose one line names the remedy.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from agent.atomic import write_atomically
from configs.names import near_names, offered_names
from configs.schema import Config

PRESET_DIRECTORY = Path(__file__).parent / "presets"

Loaded = TypeVar("Loaded", bound=BaseModel)


class ConfigError(ValueError):
    """A mistake in a preset, a configuration file or an option; the message is for the user."""


def preset_names() -> list[str]:
    """Names of the presets that ship with nearfar, sorted."""
    return sorted(path.stem for path in PRESET_DIRECTORY.glob("*.yaml"))


def load_preset(name: str) -> Config:
    """The defaults of the schema with a preset's differences applied.

    Args:
        name: a shipped preset (`cpu`), the path of a YAML file of the same form (`mine.yaml`), or several of
            these joined by `+` (`gpu+byol`), of which later ones have the last word.

    Returns:
        The configuration; its `preset` is the name, with files by their names without suffix.

    Raises:
        ConfigError: there is no such preset, or it is not valid.
    """
    values, paths = _preset_values(name)
    return validated(Config, values, " and ".join(map(str, paths)))


def configure(preset: str, options: Mapping[str, Any], source: str) -> Config:
    """The defaults of the schema with a preset's differences applied, and options on top of them.

    Args:
        preset: as in `load_preset`.
        options: by dotted name (`world_model.queue`, also spelt as in a flag, `world-model.queue`), or in
            groups as in a preset.
        source: where they stand, for the message of an error.

    Raises:
        ConfigError: there is no such preset, or the result is not valid.
    """
    values, _ = _preset_values(preset)
    for name, value in flatten(options).items():
        *groups, last = name.replace("-", "_").split(".")
        nested = {last: value}
        for group in reversed(groups):
            nested = {group: nested}
        values = _merged(values, nested)
    return validated(Config, values, source)


def _preset_values(name: str) -> tuple[dict[str, Any], list[Path]]:
    """The differences that a preset states, with its own name, and the files where it does."""
    paths = [_preset_path(part) for part in ([name] if Path(name).is_file() else name.split("+"))]
    values: dict[str, Any] = {}
    for path in paths:
        values = _merged(values, read_values(path))
    values["preset"] = "+".join(path.stem for path in paths)
    return values, paths


def _preset_path(name: str) -> Path:
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        return path
    if name not in preset_names():
        near = offered_names(name, preset_names())
        raise ConfigError(f"unknown preset {name!r}{near}, or give the path of a .yaml file")
    return PRESET_DIRECTORY / f"{name}.yaml"


def load_config(path: Path) -> Config:
    """Read the configuration of a run, as `load_options`."""
    return load_options(Config, path)


def load_options(kind: type[Loaded], path: Path) -> Loaded:
    """Read the options that `save_config` wrote.

    Raises:
        ConfigError: the file is missing, is not YAML, or holds options that are unknown or out of range.
    """
    return validated(kind, read_values(path), str(path))


def dump_yaml(config: BaseModel) -> str:
    """Every option as YAML, in the order of the schema."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def save_config(config: BaseModel, path: Path) -> None:
    """Write every option, so that a crash leaves the old file or the new one.

    Raises:
        OSError: it cannot be written; `filename` says which.
    """
    write_atomically(path, dump_yaml(config))


def describe(error: ValidationError, root: type[BaseModel] = Config) -> str:
    """All problems of a validation in one line, with full option names and near names for unknown ones.

    Args:
        error: of `root`, or of an option group inside it.
        root: options of which the names are those of the user.
    """
    model, prefix = _sections(root, "").get(error.title, (root, ""))
    return "; ".join(_describe_one(problem, model, prefix) for problem in error.errors())


def _describe_one(problem: Any, model: type[BaseModel], prefix: str) -> str:
    """One line for one entry of `ValidationError.errors()`, found in an option group named `prefix`."""
    location = [str(part) for part in problem["loc"]]
    option = (prefix + ".".join(location)).removesuffix(".")  # no location: the group as a whole
    if problem["type"] == "extra_forbidden":
        return f"unknown option {option}{near_names(location[-1], _options_beside(location, model))}"
    if problem["type"] == "missing":
        return f"{option} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":  # from the schema's own validators, whose input is a whole group
        return f"{option}: {message}" if option else message
    return f"{option}: {message[0].lower()}{message[1:]}, not {problem['input']!r}"


def _options_beside(location: list[str], model: type[BaseModel]) -> list[str]:
    """Names of the options in the group that `location` points into."""
    group = "".join(f"{name}." for name in location[:-1])
    models = {prefix: found for found, prefix in _sections(model, "").values()}
    return list(models[group].model_fields)


def _sections(model: type[BaseModel], prefix: str) -> dict[str, tuple[type[BaseModel], str]]:
    """Class name -> (class, dotted prefix) of an option group and of all groups inside it."""
    sections = {model.__name__: (model, prefix)}
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            sections |= _sections(field.annotation, f"{prefix}{name}.")
    return sections


def read_values(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds; an empty file holds an empty one.

    Raises:
        ConfigError: it cannot be read, or is something else.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no options: expected lines like `seed: 3`")
    return values


def validated(kind: type[Loaded], values: Mapping[str, Any], source: str) -> Loaded:
    """Options from what a file or flags say.

    Args:
        kind: of options.
        values: in groups, or by name where there are none.
        source: where they stand, for the message of an error.

    Raises:
        ConfigError: something is missing, unknown, or out of range.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"in {source}: {describe(error, kind)}") from error


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Nested option groups, of which `above` has the last word."""
    groups = {
        name: _merged(below[name], value)
        for name, value in above.items()
        if isinstance(value, dict) and isinstance(below.get(name), dict)
    }
    return below | above | groups


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested option groups as one mapping with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
