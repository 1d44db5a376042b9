from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from agent import checkpoint
from agent.seeding import StreamName, Streams

NAMES: tuple[StreamName, ...] = get_args(StreamName)


def draw_numpy(streams: Streams, name: StreamName) -> tuple[float, ...]:
    return tuple(streams.numpy(name).random(4).tolist())


def draw_torch(streams: Streams, name: StreamName) -> tuple[float, ...]:
    return tuple(torch.rand(4, generator=streams.torch(name), dtype=torch.float64).tolist())


@pytest.mark.parametrize("draw", [draw_numpy, draw_torch])
def test_streams_repeat_and_differ(draw: Callable[[Streams, StreamName], tuple[float, ...]]) -> None:
    first = {name: draw(Streams(3), name) for name in NAMES}
    second = {name: draw(Streams(3), name) for name in reversed(NAMES)}
    other = {name: draw(Streams(4), name) for name in NAMES}
    assert first == second
    assert len({*first.values(), *other.values()}) == 2 * len(NAMES)


def test_streams_do_not_disturb_each_other() -> None:
    expected = draw_numpy(Streams(3), "replay")
    streams = Streams(3)
    for name in NAMES:
        draw_torch(streams, name)
        if name != "replay":
            draw_numpy(streams, name)
    streams.episode_seed("env", 0)
    torch.manual_seed(0)
    assert draw_numpy(streams, "replay") == expected


def test_generator_is_one_object() -> None:
    streams = Streams(0)
    assert streams.numpy("env") is streams.numpy("env")
    assert streams.torch("init", "cpu") is streams.torch("init", torch.device("cpu"))


def test_first_numbers_never_change() -> None:
    """Runs must stay reproducible from one version to the next."""
    streams = Streams(1)
    assert streams.numpy("replay").integers(1000, size=4).tolist() == [749, 685, 533, 837]
    assert torch.randint(1000, (4,), generator=streams.torch("augment")).tolist() == [597, 281, 475, 25]
    assert [streams.episode_seed("env", 0), streams.episode_seed("eval", 2, 1)] == [3934765382, 212429337]


def test_train_and_eval_episodes_are_disjoint() -> None:
    seeds: dict[str, set[int]] = {}
    for name in ("env", "eval"):
        drawn = [
            Streams(seed).episode_seed(name, index, lane)
            for seed in (0, 1)
            for lane in (0, 1, 2)
            for index in range(200)
        ]
        seeds[name] = set(drawn)
        assert len(seeds[name]) == len(drawn)
        assert all(0 <= seed < 2**32 for seed in drawn)
        assert max(drawn) > 2**31
    assert {seed % 2 for seed in seeds["env"]} == {0}
    assert {seed % 2 for seed in seeds["eval"]} == {1}


def test_episode_seed_needs_no_state() -> None:
    streams = Streams(5)
    later = streams.episode_seed("env", 7, 1)
    assert (
        [streams.episode_seed("env", k, 1) for k in range(8)][7]
        == later
        == Streams(5).episode_seed("env", 7, 1)
    )


def used(seed: int) -> Streams:
    streams = Streams(seed)
    for name in NAMES[:4]:
        streams.numpy(name).integers(3, size=7, dtype=np.uint8)
        torch.randn(3, generator=streams.torch(name))
    return streams


def test_saved_streams_go_on(tmp_path: Path) -> None:
    streams = used(9)
    checkpoint.save(tmp_path / "state", streams.state_dict())
    state = checkpoint.load(tmp_path / "state")
    fresh, in_use = Streams(9), Streams(9)
    handed_out: list[Any] = [in_use.numpy("env"), in_use.torch("env")]
    draw_numpy(in_use, "env"), draw_torch(in_use, "env")
    for other in (fresh, in_use):
        other.load_state_dict(state)
    assert [in_use.numpy("env"), in_use.torch("env")] == handed_out
    for name in NAMES:
        assert draw_numpy(streams, name) == draw_numpy(fresh, name) == draw_numpy(in_use, name)
        assert draw_torch(streams, name) == draw_torch(fresh, name) == draw_torch(in_use, name)


def test_state_is_a_copy() -> None:
    streams = used(9)
    state = streams.state_dict()
    expected = draw_numpy(streams, "env"), draw_torch(streams, "env")
    draw_numpy(streams, "env"), draw_torch(streams, "env")
    streams.load_state_dict(state)
    assert (draw_numpy(streams, "env"), draw_torch(streams, "env")) == expected


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="saved with seed 9, these have seed 8"):
        Streams(8).load_state_dict(used(9).state_dict())
    with pytest.raises(ValueError, match="unknown stream 'evn'; there are env, eval"):
        Streams(8).numpy("evn")  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_state_of_a_gpu_run_loads_without_a_gpu() -> None:
    streams = used(9)
    state = streams.state_dict()
    state["torch"].append(["policy", "cuda", torch.zeros(16, dtype=torch.uint8)])
    other = Streams(9)
    other.load_state_dict(state)
    assert draw_torch(other, "env") == draw_torch(streams, "env")


@pytest.mark.gpu
def test_gpu_streams_go_on() -> None:
    streams = Streams(2)
    torch.rand(5, generator=streams.torch("policy", "cuda"), device="cuda")
    other = Streams(2)
    other.load_state_dict(streams.state_dict())
    drawn = [torch.rand(5, generator=s.torch("policy", "cuda"), device="cuda") for s in (streams, other)]
    assert torch.equal(*drawn)


def test_generators_of_episodes_are_functions_of_name_number_and_seed() -> None:
    def drawn(seed: int, name: StreamName, index: int) -> float:
        return float(Streams(seed).episode_generator(name, index).random())

    streams = Streams(1)
    streams.numpy("policy").random(7)
    assert streams.episode_generator("policy", 3).random() == drawn(1, "policy", 3)
    keys: list[tuple[int, StreamName, int]] = [(1, "policy", k) for k in range(50)]
    keys += [(2, "policy", 3), (1, "augment", 3)]
    assert len({drawn(*key) for key in keys}) == len(keys)
    assert float(Streams(1).numpy("policy").random()) not in {drawn(*key) for key in keys}
