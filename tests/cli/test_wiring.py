"""What options become: environments, and settings of the whole process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from unittest import mock

import pytest
import torch

from configs.schema import Config, TrainingOptions
from envs.spec import Pool
from envs.vector import SerialPool
from scripts.wiring import configure_torch, make_evaluation_pool, make_task_pool


@pytest.fixture
def process() -> Iterator[None]:
    """Puts the settings of this process back."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with mock.patch.dict(os.environ):
        os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
        yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


@pytest.mark.parametrize("make", [make_task_pool, make_evaluation_pool])
def test_environments_are_as_configured(make: Callable[[Config, int], Pool]) -> None:
    config = Config(task="counting", look="original", size=40, stack=2, action_repeat=4)
    with make(config, 1) as pool:
        spec = pool.env_spec
        assert (spec.task, spec.look, spec.action_repeat) == ("counting", "original", 4)
        assert (spec.frame_shape, spec.stack) == ((3, 40, 40), 2)
        obs, _ = pool.reset({0: 3})[0]
        assert obs.pixels.shape == (6, 40, 40)


@pytest.mark.parametrize(("episodes", "count"), [(1, 1), (4, 4), (25, 10)])
def test_evaluation_runs_side_by_side_in_this_process(episodes: int, count: int) -> None:
    with make_evaluation_pool(Config(task="counting"), episodes) as pool:
        assert isinstance(pool, SerialPool)
        assert pool.count == count


@pytest.mark.usefixtures("process")
def test_threads_are_as_configured_or_left_alone() -> None:
    configure_torch(TrainingOptions(threads=3))
    assert torch.get_num_threads() == 3
    configure_torch(TrainingOptions())
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("process")
@pytest.mark.parametrize("deterministic", [True, False])
def test_kernels_are_deterministic_where_asked_for(deterministic: bool) -> None:
    torch.use_deterministic_algorithms(False)
    configure_torch(TrainingOptions(deterministic=deterministic))
    assert torch.are_deterministic_algorithms_enabled() == deterministic
    assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) == deterministic
