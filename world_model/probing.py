"""What can be read off features: pure functions of arrays, in float64 where it matters.

Rows are observations; those of one episode are much alike, so rows are split by episode, never one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from world_model.metrics import alignment, rank_me, retrieval_accuracy, uniformity

Floats = NDArray[np.float64]
Features = NDArray[np.float32]

PENALTIES = (*np.logspace(-7, 2, 10), 1e6)
"""Ridge penalties, in units of a standardised feature's variance; the last predicts the mean."""
FEWEST_EPISODES = 4

_CONSTANT = 1e-6  # deviation below which a feature says nothing but rounding errors
_FAR = 10  # decisions between states that nobody would take for one another
_MOST_PAIRS = 256
_MOST_ROWS = 2048  # of metrics whose cost grows with the square of the rows, or faster
_NEIGHBOUR_ROWS = 6000


@dataclass(frozen=True)
class Split:
    """Rows by the part of the data that their episode is in; int64 indices, each (n,).

    Attributes:
        train: fitted on.
        validation: what penalties are chosen on.
        test: what is reported.
    """

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]

    def where(self, usable: NDArray[np.bool_]) -> Split:
        """The same without some of the rows, (N,)."""
        return Split(*(rows[usable[rows]] for rows in (self.train, self.validation, self.test)))


def split_by_episode(episode: NDArray[np.int64], seed: int = 0) -> Split:
    """Whole episodes to fit on (3 in 5), to choose on (1 in 5) and to test on (1 in 5), drawn at random.

    Args:
        episode: which episode each row is of, (N,).
        seed: of the draw.

    Raises:
        ValueError: there are fewer than `FEWEST_EPISODES`.
    """
    episodes = np.unique(episode)
    if len(episodes) < FEWEST_EPISODES:
        raise ValueError(f"expected {FEWEST_EPISODES} episodes at least, found {len(episodes)}")
    shuffled = np.random.default_rng(seed).permutation(episodes)
    held = max(1, len(episodes) // 5)
    parts = shuffled[2 * held :], shuffled[:held], shuffled[held : 2 * held]
    return Split(*(np.flatnonzero(np.isin(episode, part)) for part in parts))


def ridge(features: NDArray[np.floating], targets: Floats, split: Split) -> Floats:
    """Predictions of the test rows by ridge regression, with the penalty that suits the validation rows.

    Features are standardised by the training rows, each target has a penalty of its own from `PENALTIES`, and
    the intercept is free: (X'X/n + penalty I) w = X'y/n.

    Args:
        features: (N, F).
        targets: (N, K).
        split: rows.

    Returns:
        (test rows, K).
    """
    train = features[split.train].astype(np.float64)
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    scale = np.where(deviation > _CONSTANT, deviation, np.inf)
    train = (train - mean) / scale
    offset = targets[split.train].mean(axis=0)
    values, vectors = np.linalg.eigh(train.T @ train / len(train))
    rotated = vectors.T @ (train.T @ (targets[split.train] - offset)) / len(train)
    validation, test = (
        ((features[rows] - mean) / scale) @ vectors for rows in (split.validation, split.test)
    )
    best = np.full(targets.shape[1], np.inf)
    chosen = np.zeros_like(rotated)
    for penalty in PENALTIES:
        weights = rotated / (values.clip(min=0) + penalty)[:, None]
        error = np.square(validation @ weights + offset - targets[split.validation]).mean(axis=0)
        chosen[:, error < best] = weights[:, error < best]
        best = np.minimum(best, error)
    found: Floats = test @ chosen + offset
    return found


def nearest_mean(
    features: Features, targets: Floats, split: Split, neighbours: int = 5
) -> tuple[Floats, NDArray[np.int64]]:
    """Predictions of test rows by the mean target of the nearest training rows (Euclidean).

    Args:
        features: (N, F).
        targets: (N, K).
        split: rows; evenly spread ones are taken where there are more than 6,000.
        neighbours: how many, at most as there are training rows.

    Returns:
        Predictions (n, K), and the test rows that they are for, (n,).
    """
    train, test = spread(split.train, _NEIGHBOUR_ROWS), spread(split.test, _MOST_ROWS)
    gallery = torch.from_numpy(features[train])
    found = [
        torch.cdist(torch.from_numpy(features[rows]), gallery).topk(
            min(neighbours, len(train)), largest=False
        )[1]
        for rows in np.array_split(test, max(1, len(test) // 256))
    ]
    return targets[train[torch.cat(found).numpy()]].mean(axis=1), test


def explained(prediction: Floats, target: Floats) -> float | None:
    """R²: the share of the variance about the mean that is predicted, over all columns together.

    Args:
        prediction: (n, K), or (n,).
        target: likewise.

    Returns:
        At most 1, below 0 where the mean would be better; None where the target does not vary.
    """
    spread_ = np.square(target - target.mean(axis=0)).sum()
    if spread_ <= len(target) * _CONSTANT**2:
        return None
    return float(1 - np.square(prediction - target).sum() / spread_)


def spread(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most so many of some rows, evenly spread."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


def retrieval_over_gaps(
    features: Features,
    episode: NDArray[np.int64],
    time: NDArray[np.int64],
    gaps: Sequence[int],
    seed: int = 0,
) -> tuple[dict[int, float], int]:
    """How often a state is taken for the one that follows so many decisions later, among strangers.

    The other keys are of other episodes, or further in time from the query than its own, and by ten decisions
    at least.

    Args:
        features: (N, F).
        episode: of each row, (N,).
        time: decision of each row within its episode, (N,); all of an episode follow one another.
        gaps: in decisions; those that no two pairs of the data can have are left out.
        seed: of the pairs.

    Returns:
        Gap -> accuracy, and the number of keys, the same for all gaps: chance is one in so many.
    """
    rng = np.random.default_rng(seed)
    pairs = {gap: _pairs(episode, time, gap, rng) for gap in gaps}
    pairs = {gap: rows for gap, rows in pairs.items() if len(rows) >= 2}
    keys = min([_MOST_PAIRS, *(len(rows) for rows in pairs.values())])
    found = {}
    for gap, rows in pairs.items():
        draws = [rng.permutation(rows)[:keys] for _ in range(4)]
        scores = [
            retrieval_accuracy(torch.from_numpy(features[each]), torch.from_numpy(features[each + gap]))
            for each in draws
        ]
        found[gap] = float(torch.stack(scores).mean())
    return found, keys if pairs else 0


def retrieval_across(
    query: Features,
    key: Features,
    episode: NDArray[np.int64],
    time: NDArray[np.int64],
    seed: int = 0,
) -> tuple[float, float, int] | None:
    """How often one modality of a moment finds the other one, among strangers, and the other way round.

    The other keys are of other episodes, or ten decisions away at least.

    Args:
        query: of one modality, (N, P).
        key: of the other one, (N, P).
        episode: of each row, (N,).
        time: decision of each row within its episode, (N,); all of an episode follow one another.
        seed: of the choice of moments.

    Returns:
        Both accuracies, and the number of keys, one in which is chance; None where there are not two moments.
    """
    rng = np.random.default_rng(seed)
    rows = _pairs(episode, time, 0, rng)
    keys = min(_MOST_PAIRS, len(rows))
    if keys < 2:
        return None
    found = []
    for _ in range(4):
        chosen = rng.permutation(rows)[:keys]
        one, other = (torch.from_numpy(features[chosen]) for features in (query, key))
        found.append([float(retrieval_accuracy(one, other)), float(retrieval_accuracy(other, one))])
    there, back = np.mean(found, axis=0)
    return float(there), float(back), keys


def _pairs(
    episode: NDArray[np.int64], time: NDArray[np.int64], gap: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Rows of queries with so much room between them that every other key is a stranger."""
    room = 2 * gap + _FAR
    rows = []
    for each in np.unique(episode):
        own = np.flatnonzero(episode == each)
        starts = own[: max(0, len(own) - gap)]
        if len(starts):
            rows.append(starts[rng.integers(min(room, len(starts))) :: room])
    return np.concatenate(rows) if rows else np.zeros(0, np.int64)


@dataclass(frozen=True)
class Spread:
    """How features lie in space.

    Attributes:
        rank_me: effective rank.
        alignment: mean squared distance of unit features one decision apart.
        uniformity: log mean Gaussian potential of unit features; 0 is collapsed.
        alive: share of the features that vary at all.
    """

    rank_me: float
    alignment: float
    uniformity: float
    alive: float


def spread_of(features: Features, episode: NDArray[np.int64]) -> Spread:
    """Rank, alignment and uniformity of rows, (N, F), of which those of an episode follow one another."""
    rows = spread(np.arange(len(features)), _MOST_ROWS)
    chosen = torch.from_numpy(features[rows])
    first = np.flatnonzero(episode[:-1] == episode[1:])
    first = spread(first, _MOST_ROWS)
    return Spread(
        rank_me=float(rank_me(chosen)),
        alignment=float(alignment(torch.from_numpy(features[first]), torch.from_numpy(features[first + 1]))),
        uniformity=float(uniformity(chosen)),
        alive=float((features[rows].std(axis=0) > _CONSTANT).mean()),
    )


def collapse_warnings(spread: Spread) -> list[str]:
    """What is wrong with features that tell nothing apart, in words; nothing is the good case."""
    found = []
    if spread.rank_me < 2:
        found.append(f"effective rank {spread.rank_me:.2f}: all features say the same")
    if spread.uniformity > -0.01:
        found.append(f"uniformity {spread.uniformity:.4f}: all observations look alike")
    if spread.alive < 0.5:
        found.append(f"{1 - spread.alive:.0%} of the features never change")
    return found
