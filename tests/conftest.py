from __future__ import annotations

import os

import pytest
import torch

from envs.rendering import RenderingUnavailableError, select_backend

# Small tensors and few cores: more threads cost more than they bring.
torch.set_num_threads(1)

_RENDERING = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Choose the rendering backend before any test imports MuJoCo."""
    try:
        select_backend()
    except RenderingUnavailableError as error:
        if os.environ.get("CI"):
            raise pytest.UsageError(str(error)) from error
        config.stash[_RENDERING] = str(error)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run."""
    missing = {} if torch.cuda.is_available() else {"gpu": "needs CUDA"}
    if _RENDERING in config.stash:
        missing["gl"] = config.stash[_RENDERING]
    for item in items:
        for marker, reason in missing.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))
