from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.episodes import EpisodeError
from envs.positions import PairSampler, WindowSampler

Lengths = st.lists(st.integers(0, 9), min_size=1, max_size=6)


def frequencies(drawn: list[tuple[int, ...]]) -> dict[tuple[int, ...], float]:
    return {position: count / len(drawn) for position, count in Counter(drawn).items()}


@given(Lengths, st.integers(1, 10), st.integers(0, 2**32 - 1))
def test_windows_are_those_that_fit(lengths: list[int], length: int, seed: int) -> None:
    every = {(e, t) for e, n in enumerate(lengths) for t in range(n) if t + length <= n}
    if not every:
        with pytest.raises(EpisodeError, match=rf"windows of {length} .* longest has {max(lengths)}\)"):
            WindowSampler(np.array(lengths), length)
        return
    sampler = WindowSampler(np.array(lengths), length)
    assert len(sampler) == len(every)
    drawn = sampler.sample(50, np.random.default_rng(seed))
    assert {*zip(drawn.episode.tolist(), drawn.time.tolist(), strict=True)} <= every


def test_windows_are_uniform_over_all_that_there_are() -> None:
    """Not over episodes first, which would favour those of short ones."""
    drawn = WindowSampler(np.array([3, 0, 12, 2, 5]), 3).sample(28_000, np.random.default_rng(0))
    found = frequencies([*zip(drawn.episode.tolist(), drawn.time.tolist(), strict=True)])
    assert found.keys() == {(0, 0), *((2, t) for t in range(10)), *((4, t) for t in range(3))}
    assert max(abs(share - 1 / 14) for share in found.values()) < 0.006  # four deviations


@given(Lengths, st.integers(0, 4), st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_pairs_stay_within_an_episode_and_the_range(
    lengths: list[int], k_min: int, more: int, seed: int
) -> None:
    if max(lengths) <= k_min:
        with pytest.raises(EpisodeError, match="longer than any episode"):
            PairSampler(np.array(lengths), k_min, k_min + more)
        return
    sampler = PairSampler(np.array(lengths), k_min, k_min + more)
    (episode, time), later = sampler.sample(50, np.random.default_rng(seed))
    assert (time >= 0).all() and (later < np.array(lengths)[episode]).all()
    assert ((later - time >= k_min) & (later - time <= k_min + more)).all()


def test_distances_are_uniform_over_what_the_end_leaves() -> None:
    (_, time), later = PairSampler(np.array([5]), 1, 3).sample(36_000, np.random.default_rng(0))
    found = frequencies([*zip(time.tolist(), (later - time).tolist(), strict=True)])
    left = {0: 3, 1: 3, 2: 2, 3: 1}  # distances from each observation that has a later one
    expected = {(t, k): 1 / 4 / n for t, n in left.items() for k in range(1, n + 1)}
    assert found.keys() == expected.keys()
    assert max(abs(found[each] - expected[each]) for each in expected) < 0.009


def test_a_generator_repeats_what_it_drew() -> None:
    lengths = np.array([20, 30])
    for sampler in (WindowSampler(lengths, 4), PairSampler(lengths, 1, 5)):
        one, other, another = (sampler.sample(9, np.random.default_rng(seed)) for seed in (1, 1, 2))
        assert str(one) == str(other) != str(another)


def test_an_empty_range_is_refused() -> None:
    for k_min, k_max in ((3, 2), (-1, 2)):
        with pytest.raises(ValueError, match=f"found {k_min} and {k_max}"):
            PairSampler(np.array([9]), k_min, k_max)
    with pytest.raises(EpisodeError, match=r"longest has 0\)"):
        WindowSampler(np.zeros(0, np.int64), 1)
