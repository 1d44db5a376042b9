"""Files of run directories, read without trusting them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

try:
    from yaml import CSafeLoader as _Loader  # ten times faster: comparisons read hundreds of files
except ImportError:
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]


class RunError(ValueError):
    """A run directory cannot be read; the message names the file and the remedy."""


def read_mapping(path: Path, parse: Callable[[str], Any]) -> dict[str, Any]:
    """Read a file that holds one mapping.

    Args:
        path: the file.
        parse: turns its text into a value.

    Raises:
        RunError: the file is missing, damaged, or holds something else.
    """
    text = _read_text(path)
    try:
        content = parse(text)
    except (ValueError, yaml.YAMLError) as error:
        raise RunError(f"{path} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise RunError(f"{path} is damaged: expected a mapping, found {type(content).__name__}")
    return content


def read_yaml(text: str) -> Any:
    """The value of a YAML text, without anything that YAML could construct beyond plain values."""
    return yaml.load(text, _Loader)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise RunError(
            f"{path} is missing: {path.parent} is not a run directory, or its run has not begun"
        ) from error
    except UnicodeDecodeError as error:
        raise RunError(f"{path} is damaged: {error}") from error
