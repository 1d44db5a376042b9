"""What pictures are made of, while they are drawn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest
from matplotlib.axes import Axes


def keep_axes(monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> list[Axes]:
    """Axes of the pictures that a module draws from here on, in their order."""
    found: list[Axes] = []
    original = module.picture

    @contextmanager
    def kept(*arguments: Any, **options: Any) -> Iterator[Any]:
        with original(*arguments, **options) as (axes, legend):
            found.append(axes)
            yield axes, legend

    monkeypatch.setattr(module, "picture", kept)
    return found
