"""What an encoder knows: everything that is measured of its features, and the table of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from agent.evaluation.probe.data import ProbeData
from agent.evaluation.text_tables import ruled
from envs.state import StateVariable
from world_model.probing import (
    Features,
    Floats,
    collapse_warnings,
    explained,
    nearest_mean,
    retrieval_across,
    retrieval_over_gaps,
    ridge,
    spread_of,
)
from world_model.towers import Towers

GAPS = (1, 2, 5, 10, 20)
RANDOM, PIXELS, SUPERVISED = "random", "pixels", "supervised"
"""Names of what stands beside the encoders."""


@dataclass(frozen=True)
class Probe:
    """What the features of one encoder say of the test episodes; None where a thing does not vary there.

    Attributes:
        dimensions: F.
        r2_position: mean of `r2` over positions.
        r2_velocity: mean of `r2` over velocities.
        r2: R² of each state variable; of sine and cosine together where it is periodic.
        rmse: root of the mean squared error in the variable's unit; None where it is periodic.
        r2_reward: of the reward of the decision that led to what is seen.
        r2_action: of the action taken at what is seen; nothing to find where actions were random.
        knn_error: root mean squared error of nearest neighbours, in deviations, mean over variables.
        retrieval: mean of `retrieval_by_gap`.
        retrieval_by_gap: how often a state finds the one so many decisions later.
        retrieval_keys: among how many.
        rank_me: effective rank.
        alignment: mean squared distance of unit features one decision apart.
        uniformity: log mean Gaussian potential of unit features.
        warnings: in words.
        state_of_pixels: how often pixels find their own state, where both were learnt together (clip).
        pixels_of_state: how often a state finds its own pixels.
        moments: among how many.
    """

    dimensions: int
    r2_position: float | None
    r2_velocity: float | None
    r2: Mapping[str, float | None]
    rmse: Mapping[str, float | None]
    r2_reward: float | None
    r2_action: float | None
    knn_error: float | None
    retrieval: float | None
    retrieval_by_gap: Mapping[int, float]
    retrieval_keys: int
    rank_me: float
    alignment: float
    uniformity: float
    warnings: tuple[str, ...]
    state_of_pixels: float | None = None
    pixels_of_state: float | None = None
    moments: int = 0


def probe(features: Features, data: ProbeData) -> Probe:
    """Measure features, (N, F), of the rows of the data."""
    r2, rmse = _read_states(features, data)
    held = np.sort(np.concatenate([data.split.validation, data.split.test]))
    found, keys = retrieval_over_gaps(features[held], data.episode[held], data.time[held], GAPS)
    spread = spread_of(features[held], data.episode[held])
    return Probe(
        dimensions=features.shape[1],
        r2_position=_mean_of(r2, data.variables, "position"),
        r2_velocity=_mean_of(r2, data.variables, "velocity"),
        r2=r2,
        rmse=rmse,
        r2_reward=_read(features, data.reward[:, None], data),
        r2_action=_read(features, data.action, data),
        knn_error=_neighbours(features, data),
        retrieval=float(np.mean(list(found.values()))) if found else None,
        retrieval_by_gap=found,
        retrieval_keys=keys,
        rank_me=spread.rank_me,
        alignment=spread.alignment,
        uniformity=spread.uniformity,
        warnings=tuple(collapse_warnings(spread)),
    )


def with_towers(found: Probe, towers: Towers, features: Features, data: ProbeData) -> Probe:
    """The same, with how pixels and states find one another in the test episodes.

    Args:
        found: of an encoder of pixels.
        towers: that stand on it.
        features: its own, (N, Z).
        data: whose vectors the towers see; where they have another length, nothing is added.
    """
    if data.episodes[0].proprio.shape[1] != towers.facts.proprio_dim:
        return found
    test = data.split.test
    with torch.no_grad():
        pixels = towers.projection(torch.from_numpy(features[test])).numpy()
        state = towers.state_encoder(data.proprio(test)).numpy()
    across = retrieval_across(pixels, state, data.episode[test], data.time[test])
    if across is None:
        return found
    there, back, moments = across
    return replace(found, state_of_pixels=there, pixels_of_state=back, moments=moments)


def _read_states(
    features: Features, data: ProbeData
) -> tuple[dict[str, float | None], dict[str, float | None]]:
    """R² and error of each variable by ridge regression."""
    if not data.variables:
        return {}, {}
    columns = [data.columns(each) for each in data.variables]
    prediction = ridge(features, np.concatenate(columns, axis=1), data.split)
    ends = np.cumsum([each.shape[1] for each in columns])
    r2: dict[str, float | None] = {}
    rmse: dict[str, float | None] = {}
    for variable, column, found in zip(
        data.variables, columns, np.split(prediction, ends[:-1], axis=1), strict=True
    ):
        target = column[data.split.test]
        r2[variable.name] = explained(found, target)
        error = float(np.sqrt(np.square(found - target).mean()))
        rmse[variable.name] = None if variable.is_periodic else error
    return r2, rmse


def _read(features: Features, targets: Floats, data: ProbeData) -> float | None:
    """R² of targets of which some rows are missing."""
    split = data.split.where(np.logical_and.reduce(np.isfinite(targets), axis=1))
    if not targets.shape[1] or not min(len(split.train), len(split.validation), len(split.test)):
        return None
    return explained(ridge(features, targets, split), targets[split.test])


def _neighbours(features: Features, data: ProbeData) -> float | None:
    """Error of the mean of nearest training rows, in deviations of the test rows."""
    if not data.variables:
        return None
    targets = np.concatenate([data.columns(each) for each in data.variables], axis=1)
    found, rows = nearest_mean(features, targets, data.split)
    deviation = targets[rows].std(axis=0)
    varies = deviation > 1e-6
    if not varies.any():
        return None
    error = np.sqrt(np.square(found - targets[rows]).mean(axis=0))
    return float((error[varies] / deviation[varies]).mean())


def _mean_of(r2: Mapping[str, float | None], variables: Sequence[StateVariable], kind: str) -> float | None:
    found = [value for each in variables if each.kind == kind and (value := r2[each.name]) is not None]
    return float(np.mean(found)) if found else None


def warn_beside(probes: Mapping[str, Probe]) -> dict[str, Probe]:
    """The same, where features of much lower rank than a random encoder's are warned of, too."""
    if RANDOM not in probes:
        return dict(probes)
    least = probes[RANDOM].rank_me / 2
    found = {}
    for name, each in probes.items():
        text = f"effective rank {each.rank_me:.1f} is less than half of the random encoder's, {2 * least:.1f}"
        is_low = name not in (RANDOM, PIXELS) and each.rank_me < least
        found[name] = replace(each, warnings=(*each.warnings, text)) if is_low else each
    return found


def as_json(probes: Mapping[str, Probe], data: ProbeData) -> dict[str, Any]:
    """All numbers as JSON holds them."""
    return {
        "encoders": {name: asdict(each) for name, each in probes.items()},
        "variables": [asdict(each) for each in data.variables],
        "data": {
            "path": str(data.store),
            "task": data.episodes[0].info.task,
            "episodes": len(data.episodes),
            "observations": len(data.time),
            "test_observations": len(data.split.test),
            "fingerprint": data.fingerprint,
        },
    }


COLUMNS = {
    "position R²": "r2_position",
    "velocity R²": "r2_velocity",
    "reward R²": "r2_reward",
    "action R²": "r2_action",
    "k-NN error": "knn_error",
    "retrieval": "retrieval",
    "RankMe": "rank_me",
    "alignment": "alignment",
    "uniformity": "uniformity",
}
"""Heading -> the number of a `Probe` below it."""
CROSS_MODAL = {"state of pixels": "state_of_pixels", "pixels of state": "pixels_of_state"}
"""The same of encoders that were learnt with a second modality."""


def columns(probes: Mapping[str, Probe]) -> dict[str, str]:
    """Headings of a table of these probes; those of a second modality where one has it."""
    return COLUMNS | (CROSS_MODAL if any(each.moments for each in probes.values()) else {})


def shown(value: float | None) -> str:
    """A number as tables show it; a dash where there is none."""
    return "-" if value is None else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def table(probes: Mapping[str, Probe]) -> str:
    """One line an encoder, and one for each warning."""
    headings = columns(probes)
    rows = [
        (name, *(shown(getattr(each, attribute)) for attribute in headings.values()))
        for name, each in probes.items()
    ]
    lines = [ruled([("encoder", *headings), *rows], left=1)]
    lines += [f"warning: {name}: {text}" for name, each in probes.items() for text in each.warnings]
    return "\n".join(lines)
