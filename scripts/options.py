"""Options from the command line: a preset, then flags, then validation."""

from __future__ import annotations

import argparse
import contextlib
import io
import re
from collections.abc import Sequence
from typing import Any, TypeVar

import tyro
from pydantic import BaseModel, ValidationError

from configs.load import ConfigError, describe, load_preset
from configs.relevance import check_counts
from configs.schema import Config, EnvironmentOptions
from envs.registry import canonical_task, check_distractors

Parsed = TypeVar("Parsed", bound=BaseModel)
Run = TypeVar("Run", bound=Config)


def parse_config(kind: type[Run], prog: str, arguments: Sequence[str]) -> Run:
    """Options of a run: the schema's defaults, the preset's differences, the flags, in this order.

    Args:
        kind: the options, those of a run or more.
        prog: how the command is called, for the help text.
        arguments: flags.

    Returns:
        The configuration, with the names of task and preset resolved.

    Raises:
        ConfigError: unknown preset, a misspelt flag, a value out of range, or a flag that does nothing beside
            the others.
        TaskError: no such task, or a module to import that cannot be.
        DistractorError: the distractors cannot be had.
        SystemExit: 0 after `--help`.
    """
    preset = _resolve_preset(arguments)
    config = parse_flags(kind, prog, arguments, kind(**dict(preset)))
    check_counts(config, preset)
    # The flag held the name as it was typed.
    return config.model_copy(update={"preset": preset.preset, "task": checked_task(config)})


def checked_task(options: EnvironmentOptions) -> str:
    """The canonical name of the task.

    Raises:
        TaskError: no such task, or a module to import that cannot be.
        DistractorError: the distractors cannot be had.
    """
    task = canonical_task(options.task, options.imports)
    check_distractors(task, options.distract)
    return task


def _resolve_preset(arguments: Sequence[str]) -> Config:
    """The preset that the flags name; torch is imported only to find a GPU."""
    flags = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    flags.add_argument("--preset", default=Config().preset)
    flags.add_argument("--device", default=Config().device)
    try:
        chosen, rest = flags.parse_known_args(arguments)
    except argparse.ArgumentError:  # a flag without its value: tyro explains it
        return Config()
    if "auto" in chosen.preset.split("+") and {"-h", "--help"} & set(rest):
        return Config()
    return load_preset(resolve_auto(chosen.preset, chosen.device))


def resolve_auto(preset: str, device: str) -> str:
    """A preset's name with `auto` replaced by `gpu` or `cpu`, whichever fits the device and this machine."""
    parts = preset.split("+")
    if "auto" not in parts:
        return preset
    here = "gpu" if device != "cpu" and _has_gpu() else "cpu"
    return "+".join(here if part == "auto" else part for part in parts)


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def parse_flags(
    kind: type[Parsed], prog: str, arguments: Sequence[str], default: Any = tyro.MISSING_NONPROP
) -> Parsed:
    """Let tyro parse; what it or pydantic refuses becomes one line instead of tyro's box.

    Args:
        kind: the options.
        prog: how the command is called, for the help text.
        arguments: flags.
        default: what flags change; unset: the defaults of `kind`.

    Raises:
        ConfigError: a misspelt flag, a value that is missing, superfluous, of another kind or out of range.
        SystemExit: 0 after `--help`.
    """
    shown = io.StringIO()
    try:
        with contextlib.redirect_stderr(shown):
            return tyro.cli(kind, prog=prog, args=arguments, default=default)
    except SystemExit as stop:
        cause = stop.__context__
        while cause is not None and not isinstance(cause, ValidationError):
            cause = cause.__context__
        if cause is not None:
            raise ConfigError(describe(cause, kind)) from None
        if stop.code != 2:
            raise
        raise ConfigError(f"{_essence(shown.getvalue())}: see {prog} --help") from None


def _essence(box: str) -> str:
    """What tyro's box says before its first rule, and the flags that it offers below."""
    sections: list[list[str]] = []
    for line in box.splitlines():
        # Its sides are lines, or blanks where the terminal has no such letters.
        inside = re.sub(r"\x1b\[[0-9;]*m", "", line)[2:].rstrip(" │")
        if not sections or set(inside.strip()) in ({"─"}, {"-"}):
            sections.append([])
        elif inside.strip("─╯"):
            sections[-1].append(inside)
    sections = [section for section in sections if section]
    # What stands further in than the names of arguments describes them.
    said = " ".join(line.strip() for line in sections[0] if not line.startswith(" " * 5))
    expected = re.fullmatch(
        r"Error parsing (\S+): no type matching (.+) could be inst.+ from \[(.*?)\]\..*", said
    )
    if expected:
        flag, kinds, found = expected.groups()
        said = f"{flag}: expected {kinds.replace('{None}|', '').strip('{}')}, found {found}"
    offering = ("Perhaps you meant", "Arguments similar to")
    offers = [line for section in sections[1:] if section[0].startswith(offering) for line in section]
    near = dict.fromkeys(line.split()[0].rstrip(",") for line in offers if line.startswith("    --"))
    return said.rstrip(".:") + (f"; perhaps you meant {' or '.join(near)}" if near else "")
