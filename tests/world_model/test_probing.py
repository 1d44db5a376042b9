"""Probes against closed forms, loops and worlds in which the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from world_model import probing
from world_model.probing import (
    FEWEST_EPISODES,
    Split,
    Spread,
    collapse_warnings,
    explained,
    nearest_mean,
    retrieval_over_gaps,
    ridge,
    split_by_episode,
    spread,
    spread_of,
)

EPISODES, LENGTH = 40, 50


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def episode() -> NDArray[np.int64]:
    return np.repeat(np.arange(EPISODES), LENGTH)


def score(features: NDArray[np.floating], target: NDArray[np.float64], split: Split) -> float:
    found = explained(ridge(features, target[:, None], split)[:, 0], target[split.test])
    assert found is not None
    return found


@given(lengths=st.lists(st.integers(1, 9), min_size=FEWEST_EPISODES, max_size=30), seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_every_row_is_in_one_part_and_every_episode_too(lengths: list[int], seed: int) -> None:
    episode = np.repeat(np.arange(len(lengths)), lengths)
    split = split_by_episode(episode, seed)
    parts = split.train, split.validation, split.test
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(episode)))
    episodes = [set(episode[rows].tolist()) for rows in parts]
    assert all(episodes)
    assert sum(map(len, episodes)) == len(lengths), "none is in two parts"
    assert len(episodes[0]) >= len(episodes[1]) == len(episodes[2])


def test_too_few_episodes() -> None:
    with pytest.raises(ValueError, match="4 episodes at least, found 3"):
        split_by_episode(np.repeat(np.arange(3), 5))


def test_an_episode_known_by_heart_says_nothing_of_others(
    rng: np.random.Generator, episode: NDArray[np.int64]
) -> None:
    """Features that name the episode, and a label that is the same all through it: by frames this is easy."""
    features = rng.normal(size=(EPISODES, 64))[episode]
    label = rng.normal(size=EPISODES)[episode]
    assert score(features, label, split_by_episode(episode)) < 0.1
    shuffled = rng.permutation(len(episode))
    by_frame = Split(*np.split(shuffled, [len(episode) * 3 // 5, len(episode) * 4 // 5]))
    assert score(features, label, by_frame) > 0.99


def test_ridge_equals_least_squares_with_the_penalty_as_further_rows(
    rng: np.random.Generator, episode: NDArray[np.int64], monkeypatch: pytest.MonkeyPatch
) -> None:
    penalty = 0.3
    monkeypatch.setattr(probing, "PENALTIES", (penalty,))
    features = rng.normal(size=(len(episode), 7)) * [1, 10, 0.1, 1, 1, 5, 0] + 3
    targets = features @ rng.normal(size=(7, 2)) + rng.normal(size=(len(episode), 2)) + 11
    split = split_by_episode(episode)
    found = ridge(features, targets, split)
    x, y = features[split.train][:, :6], targets[split.train]  # the last feature never changes
    scaled = (x - x.mean(0)) / x.std(0)
    rows = np.concatenate([scaled, np.sqrt(len(x) * penalty) * np.eye(6)])
    weights, *_ = np.linalg.lstsq(rows, np.concatenate([y - y.mean(0), np.zeros((6, 2))]), rcond=None)
    expected = (features[split.test][:, :6] - x.mean(0)) / x.std(0) @ weights + y.mean(0)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("known", [1.0, 0.8, 0.3])
def test_a_linear_world_of_known_r2(
    rng: np.random.Generator, episode: NDArray[np.int64], known: float
) -> None:
    features = rng.normal(size=(len(episode), 12)).astype(np.float32)
    weights = rng.normal(size=12)
    signal = features @ weights / np.linalg.norm(weights)
    target = np.sqrt(known) * signal + np.sqrt(1 - known) * rng.normal(size=len(episode))
    assert score(features, target, split_by_episode(episode)) == pytest.approx(known, abs=0.06)


def test_permuted_labels_are_not_explained(rng: np.random.Generator, episode: NDArray[np.int64]) -> None:
    features = rng.normal(size=(len(episode), 12))
    target = features @ rng.normal(size=12)
    split = split_by_episode(episode)
    assert score(features, target, split) > 0.999
    assert abs(score(features, rng.permutation(target), split)) < 0.03


def test_each_target_has_the_penalty_that_suits_it(rng: np.random.Generator) -> None:
    """More features than training rows: without a penalty, what is unknowable is far worse than the mean."""
    episode = np.repeat(np.arange(EPISODES), 10)
    features = rng.normal(size=(len(episode), 400))
    targets = np.stack([10 * features[:, 0], rng.normal(size=len(episode))], axis=1)
    split = split_by_episode(episode)
    found = ridge(features, targets, split)
    known, unknowable = (explained(found[:, k], targets[split.test, k]) for k in (0, 1))
    assert known is not None and known > 0.2
    assert unknowable is not None and -0.1 < unknowable < 0.1


def test_penalties_are_chosen_on_validation_episodes(
    rng: np.random.Generator, episode: NDArray[np.int64]
) -> None:
    """Where those say that the features mean nothing, the mean is predicted, whatever the test rows say."""
    features = rng.normal(size=(len(episode), 5))
    target = features @ rng.normal(size=5)
    split = split_by_episode(episode)
    target[split.validation] = -target[split.validation]
    assert score(features, target, split) == pytest.approx(0, abs=0.02)


def test_a_unit_changes_nothing(rng: np.random.Generator, episode: NDArray[np.int64]) -> None:
    features = rng.normal(size=(len(episode), 5))
    target = features @ rng.normal(size=5) + rng.normal(size=len(episode))
    split = split_by_episode(episode)
    again = score(features * 1000 - 4, target * 1e-3 + 7, split)
    assert score(features, target, split) == pytest.approx(again, rel=1e-6)


def test_r2_in_closed_form() -> None:
    target = np.array([0.0, 1.0, 2.0, 3.0])
    assert explained(target, target) == 1.0
    assert explained(np.full(4, 1.5), target) == 0.0
    assert explained(target[::-1], target) == pytest.approx(1 - 20 / 5)
    pairs = np.stack([target, 2 * target], axis=1)
    guess = np.stack([target, np.full(4, 3.0)], axis=1)
    assert explained(guess, pairs) == pytest.approx(1 - 20 / 25), "columns count by their variance"
    assert explained(np.zeros(4), np.full(4, 0.1)) is None, "nothing varies"


def test_nearest_rows_by_loops(rng: np.random.Generator) -> None:
    episode = np.repeat(np.arange(10), 6)
    features = rng.normal(size=(60, 3)).astype(np.float32)
    targets = rng.normal(size=(60, 2))
    split = split_by_episode(episode)
    found, rows = nearest_mean(features, targets, split, neighbours=3)
    assert rows.tolist() == split.test.tolist()
    for prediction, row in zip(found, rows, strict=True):
        distances = sorted(
            (float(np.square(features[row] - features[other]).sum()), other) for other in split.train
        )
        np.testing.assert_allclose(prediction, sum(targets[other] for _, other in distances[:3]) / 3)


def test_rows_are_spread_evenly() -> None:
    assert spread(np.arange(5), 5).tolist() == [0, 1, 2, 3, 4]
    assert spread(np.arange(100, 201), 3).tolist() == [100, 150, 200]


def test_strangers_are_of_other_episodes_or_further_than_the_own_key(episode: NDArray[np.int64]) -> None:
    time = np.tile(np.arange(LENGTH), EPISODES)
    for gap in (1, 5, 12):
        rows = probing._pairs(episode, time, gap, np.random.default_rng(1))
        assert len(rows) >= EPISODES
        for query in rows:
            assert episode[query] == episode[query + gap] and time[query + gap] - time[query] == gap
            for other in rows[rows != query]:
                is_far = abs(time[other + gap] - time[query]) >= gap + 10
                assert episode[other + gap] != episode[query] or is_far


def test_retrieval_of_features_that_know_all_nothing_and_too_much(
    rng: np.random.Generator, episode: NDArray[np.int64]
) -> None:
    time = np.tile(np.arange(LENGTH), EPISODES)
    angle = (0.02 * time).astype(np.float32)
    # every episode has two axes of its own, in which time turns slowly
    knowing = np.zeros((len(time), 2 * EPISODES), np.float32)
    knowing[np.arange(len(time)), 2 * episode] = np.cos(angle)
    knowing[np.arange(len(time)), 2 * episode + 1] = np.sin(angle)
    found, keys = retrieval_over_gaps(knowing, episode, time, (1, 5, 60))
    assert found == {1: 1.0, 5: 1.0}, "no episode is long enough for 60"
    assert keys > EPISODES
    collapsed, _ = retrieval_over_gaps(np.ones((len(time), 4), np.float32), episode, time, (1, 5))
    assert collapsed == {1: 0.0, 5: 0.0}
    noise = rng.normal(size=(len(time), 8)).astype(np.float32)
    chance, keys = retrieval_over_gaps(noise, episode, time, (1, 5))
    assert max(chance.values()) < 4 / keys


def test_retrieval_without_pairs() -> None:
    found, keys = retrieval_over_gaps(np.ones((4, 2), np.float32), np.arange(4), np.zeros(4, np.int64), (1,))
    assert (found, keys) == ({}, 0)


def test_alignment_is_of_neighbours_within_an_episode() -> None:
    """Two episodes of two states each: the step between the episodes, the longest, does not count."""
    features = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], np.float32)
    found = spread_of(features, np.array([0, 0, 1, 1]))
    assert found.alignment == pytest.approx(2.0)
    across = spread_of(np.array([[1, 0], [1, 0], [-1, 0], [-1, 0]], np.float32), np.array([0, 0, 1, 1]))
    assert across.alignment == pytest.approx(0.0)


def test_collapse_is_warned_of(rng: np.random.Generator, episode: NDArray[np.int64]) -> None:
    good = spread_of(rng.normal(size=(len(episode), 8)).astype(np.float32), episode)
    assert collapse_warnings(good) == []
    constant = spread_of(np.ones((len(episode), 8), np.float32), episode)
    assert len(collapse_warnings(constant)) == 3
    half = rng.normal(size=(len(episode), 8)).astype(np.float32) * [1, 1, 1, 0, 0, 0, 0, 0]
    (text,) = collapse_warnings(spread_of(half.astype(np.float32), episode))
    assert "62% of the features never change" in text
    assert collapse_warnings(Spread(rank_me=1.5, alignment=0.1, uniformity=-1.0, alive=1.0))
