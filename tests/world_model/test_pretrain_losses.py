"""What each pretraining method makes of fixed rows, against loops that share no code with it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from configs.pretrain import WINDOWED, PretrainConfig
from tests.points import env_spec
from world_model.pretrain.clip import CLIP
from world_model.pretrain.method import Method
from world_model.pretrain.pairs import MoCo
from world_model.pretrain.registry import make_method

B, P = 6, 4
T = 0.3  # temperature
RHO = 0.5  # what a decision weighs beside the one before
SMALL = {"channels": 4}
# Rows 0 and 3 are the same state, row 1 is two decisions later, row 4 seven; 2 and 5 are of another episode.
EPISODE = [4, 4, 9, 4, 4, 9]
TIME = [10, 12, 10, 10, 17, 40]
LATER = [10, 12, 10, 10, 17, 40]
MUCH_LATER = [13, 14, 11, 11, 21, 41]  # where positives differ in time

Vectors = dict[str, np.ndarray]


def method_of(name: str, **pairs: Any) -> Method:
    options: dict[str, Any] = {"method": name, "stack": 2, "model": {"latent_dim": 16, "encoder": SMALL}}
    if name not in WINDOWED:
        options["pairs"] = {"projection_dim": P, "hidden_dim": 8} | pairs
    config = PretrainConfig(**options)
    torch.manual_seed(0)
    made = make_method(config.method, env_spec(), config.obs, config.model.world_model(), config.pairs)
    return made.double()


def rows_of(*names: str, later: list[int] = LATER) -> tuple[dict[str, Tensor], Vectors]:
    """Rows of noise with where they are from, and the vectors among them as unit vectors."""
    rng = np.random.default_rng(0)
    vectors = {name: rng.normal(size=(B, P)) for name in names}
    rows = {name: torch.from_numpy(value) for name, value in vectors.items()}
    places = {"episode": EPISODE, "time": TIME, "later_time": later}
    return rows | {name: torch.tensor(value) for name, value in places.items()}, vectors


def unit(x: np.ndarray) -> np.ndarray:
    return x / math.sqrt(sum(float(each) ** 2 for each in x))


def matching(query: np.ndarray, own: np.ndarray, others: list[np.ndarray], temperature: float) -> float:
    """-log of the share of the own key, among it and others."""
    scores = [float(unit(query) @ unit(key)) / temperature for key in (own, *others)]
    return math.log(sum(math.exp(score) for score in scores)) - scores[0]


def is_near(i: int, episode: int, time: int, window: int, later: list[int]) -> bool:
    """Whether a key is of the episode of pair i, and near its halves or between them."""
    return episode == EPISODE[i] and TIME[i] - window <= time <= later[i] + window


@pytest.mark.parametrize("tile", [0, 4])
@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize(("window", "later"), [(None, LATER), (0, LATER), (2, LATER), (1, MUCH_LATER)])
def test_simclr(window: int | None, later: list[int], decoupled: bool, tile: int) -> None:
    method = method_of("simclr", temperature=T, near_window=window, decoupled=decoupled, tile=tile)
    rows, vectors = rows_of("view_1", "view_2", later=later)
    views = [*vectors["view_1"], *vectors["view_2"]]
    times = [*TIME, *later]
    expected = []
    for n in range(2 * B):
        own = (n + B) % (2 * B)
        others = [
            m
            for m in range(2 * B)
            if m not in (n, own) and not is_near(n % B, EPISODE[m % B], times[m], window or 0, later)
        ]
        assert others
        loss = matching(views[n], views[own], [views[m] for m in others], T)
        if decoupled:
            logits = [float(unit(views[n]) @ unit(views[m])) / T for m in (own, *others)]
            loss = math.log(sum(math.exp(each) for each in logits[1:])) - logits[0]
        expected.append(loss)
    assert method.losses(rows)["contrast"].item() == pytest.approx(np.mean(expected), rel=1e-9)


@pytest.mark.parametrize("tile", [0, 4])
@pytest.mark.parametrize(("window", "later"), [(None, LATER), (0, LATER), (2, LATER), (1, MUCH_LATER)])
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_moco(version: str, window: int | None, later: list[int], tile: int) -> None:
    head = {} if version == "v2" else {"moco": "v1", "hidden_dim": 512}
    method = method_of("moco", temperature=T, near_window=window, tile=tile, queue=8, **head)
    assert isinstance(method, MoCo) and method.queue is not None
    # five places of eight are taken: copies of rows 0, 1 and 2, and two of their neighbours
    held = np.random.default_rng(1).normal(size=(5, P))
    held_episode, held_time = [4, 4, 9, 4, 9], [10, 12, 10, 11, 12]
    method.queue.push(torch.from_numpy(held), torch.tensor(held_episode), torch.tensor(held_time))
    rows, vectors = rows_of("query", "key", later=later)
    keys = [*vectors["key"], *held]
    places = list(zip([*EPISODE, *held_episode], [*later, *held_time], strict=True))
    expected, left_out = [], 0
    for i in range(B):
        far = [m for m, place in enumerate(places) if m != i and not is_near(i, *place, window or 0, later)]
        left_out += len(places) - 1 - len(far)
        expected.append(matching(vectors["query"][i], keys[i], [keys[m] for m in far], T))
    assert left_out >= 6, "there is something near, in the batch and in the queue"
    assert method.losses(rows)["contrast"].item() == pytest.approx(np.mean(expected), rel=1e-6)


def test_mocos_queue_holds_the_keys_of_earlier_steps() -> None:
    method = method_of("moco", queue=8)
    assert isinstance(method, MoCo) and method.queue is not None
    first, second = (rows_of("query", "key", later=later)[0] for later in (LATER, MUCH_LATER))
    method.after_step(first, 0.1)
    method.after_step(second, 0.1)
    np.testing.assert_allclose(method.queue.key, torch.cat((second["key"], first["key"][:2])), rtol=1e-6)
    assert method.queue.episode.tolist() == EPISODE + EPISODE[:2]
    assert method.queue.time.tolist() == MUCH_LATER + LATER[:2]


def test_projections_of_moco() -> None:
    """v1: linear; v2 and v3: deep; v3 predicts beside it."""
    for version, layers in (("v1", 1), ("v2", 3), ("v3", 3)):
        method = method_of("moco", moco=version, **({"hidden_dim": 512} if version == "v1" else {}))
        for head in (method.projection, method.key_projection):
            assert isinstance(head, nn.Module)
            assert sum(isinstance(layer, nn.Linear) for layer in head.modules()) == layers
        assert hasattr(method, "predictor") == (version == "v3")
        assert (getattr(method, "queue", None) is not None) == (version != "v3")


@pytest.mark.parametrize(("window", "later"), [(None, LATER), (2, LATER), (1, MUCH_LATER)])
def test_moco_v3_goes_both_ways(window: int | None, later: list[int]) -> None:
    method = method_of("moco", temperature=T, moco="v3", near_window=window)
    rows, vectors = rows_of("prediction_1", "key_1", "prediction_2", "key_2", later=later)
    total = 0.0
    for query, key, times in (("prediction_1", "key_2", later), ("prediction_2", "key_1", TIME)):
        for i in range(B):
            others = [
                vectors[key][m]
                for m in range(B)
                if m != i and not is_near(i, EPISODE[m], times[m], window or 0, later)
            ]
            total += matching(vectors[query][i], vectors[key][i], others, T) / B
    assert method.losses(rows)["contrast"].item() == pytest.approx(2 * T * total, rel=1e-9)


def standardised(columns: np.ndarray) -> np.ndarray:
    return (columns - columns.mean(axis=0)) / np.sqrt(columns.var(axis=0) + 1e-5)


def test_byol_goes_both_ways() -> None:
    rows, vectors = rows_of("prediction_1", "key_1", "prediction_2", "key_2")
    expected = 0.0
    for query, key in (("prediction_1", "key_2"), ("prediction_2", "key_1")):
        for prediction, target in zip(vectors[query], standardised(vectors[key]), strict=True):
            expected += float(((unit(prediction) - unit(target)) ** 2).sum()) / B
    assert method_of("byol").losses(rows)["bootstrap"].item() == pytest.approx(expected, rel=1e-9)


def test_barlow_twins() -> None:
    rows, vectors = rows_of("view_1", "view_2")
    x, y = (standardised(vectors[name]) for name in ("view_1", "view_2"))
    expected = 0.0
    for i in range(P):
        for j in range(P):
            correlation = float(np.mean(x[:, i] * y[:, j]))
            expected += (1 - correlation) ** 2 if i == j else 5e-3 * correlation**2
    assert method_of("barlow").losses(rows)["redundancy"].item() == pytest.approx(expected / P, rel=1e-9)


def test_vicreg() -> None:
    rows, vectors = rows_of("view_1", "view_2")
    spread = redundant = 0.0
    for view in vectors.values():
        covariance = np.cov(view.T)
        for i in range(P):
            spread += max(0.0, 1 - math.sqrt(covariance[i, i] + 1e-4)) / P / 2
            redundant += sum(covariance[i, j] ** 2 for j in range(P) if j != i) / P
    invariance = float(((vectors["view_1"] - vectors["view_2"]) ** 2).mean())
    expected = invariance + spread + redundant / 25
    assert method_of("vicreg").losses(rows)["redundancy"].item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("window", [None, 20])
@pytest.mark.parametrize("name", ["triplet", "margin"])
def test_distances(name: str, window: int | None) -> None:
    """Keys of two episodes at 10 and 12, 22 and 24: those that may be one row's negative are the same vector.

    By default these are the ones ten decisions away, and with a window of 20 those of the other episode.
    """
    method = method_of(name, near_window=window, margin=1.5)
    rng = np.random.default_rng(0)
    episode, time = np.repeat([4, 9], 4), np.tile([10, 22, 12, 24], 2)
    group = 2 * (episode == 9) + (time > 20) if window is None else 1 * (episode == 9)
    other = group ^ 1
    query, keys = rng.normal(size=(8, P)), rng.normal(size=(4, P))
    rows = {
        "query": torch.from_numpy(query),
        "key": torch.from_numpy(keys[group]),
        "episode": torch.from_numpy(episode),
        "time": torch.full((8,), 9),
        "later_time": torch.from_numpy(time),
    }
    expected = 0.0
    for i in range(8):
        near, far = (math.dist(query[i], keys[each[i]]) for each in (group, other))
        loss = near - far + 1.5 if name == "triplet" else (near**2 + max(0.0, 1.5 - far) ** 2) / 2
        expected += max(0.0, loss) / 8
    assert method.losses(rows)["distance"].item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("tile", [0, 2])
@pytest.mark.parametrize("window", [0, 2])
@pytest.mark.parametrize("temperature", [0.3, 0.001])
def test_clip_goes_both_ways_without_near_states(temperature: float, window: int, tile: int) -> None:
    """The inverse of the temperature is 100 at most, from the first step on."""
    rows, vectors = rows_of("pixels", "state")
    method = method_of("clip", temperature=temperature, near_window=window, tile=tile)
    expected = 0.0
    for query, key in (("pixels", "state"), ("state", "pixels")):
        for i in range(B):
            far = [m for m in range(B) if EPISODE[m] != EPISODE[i] or abs(TIME[m] - TIME[i]) > window]
            others = [vectors[key][m] for m in far]
            expected += matching(vectors[query][i], vectors[key][i], others, max(temperature, 0.01)) / B / 2
    assert method.losses(rows)["contrast"].item() == pytest.approx(expected, rel=1e-6)
    assert method.metrics(rows)["temperature"].item() == pytest.approx(max(temperature, 0.01), rel=1e-6)


def test_clips_temperature_comes_back_from_its_bound() -> None:
    """Every pair is right at first, which calls for a lower temperature; then every one is wrong."""
    method = method_of("clip", temperature=T)
    assert isinstance(method, CLIP)
    rows, _ = rows_of("pixels", "state")
    found = []
    for state, step in ((rows["pixels"], 9.0), (-rows["pixels"], 0.1)):
        seen = rows | {"state": state}
        optimizer = torch.optim.Adam(method.learnt_in_losses(), lr=step)
        optimizer.zero_grad()
        method.losses(seen)["contrast"].backward()
        optimizer.step()
        method.after_step(seen, 0.0)
        found.append(method.metrics(seen)["temperature"].item())
    assert found == pytest.approx([0.01, 0.01 * math.exp(0.1)], rel=1e-4)


def test_predictive_weighs_decisions_by_their_distance() -> None:
    """Byol's loss of each decision that was seen, keys standardised over all of them."""
    rng = np.random.default_rng(0)
    query, key = rng.normal(size=(2, B, 3, P))
    seen = np.ones((B, 3), bool)
    seen[1, 2] = seen[3, 1] = seen[3, 2] = False
    targets = standardised(key.reshape(-1, P)).reshape(B, 3, P)
    expected = 0.0
    for i, k in zip(*np.nonzero(seen), strict=True):
        apart = float(((unit(query[i, k]) - unit(targets[i, k])) ** 2).sum())
        expected += apart * RHO**k / sum(RHO**each for each in range(3)) / B
    rows = {"query": torch.from_numpy(query), "key": torch.from_numpy(key), "seen": torch.from_numpy(seen)}
    assert method_of("predictive").losses(rows)["bootstrap"].item() == pytest.approx(expected, rel=1e-6)


def test_methods_that_look_at_each_window_cost_the_mean() -> None:
    rows = {"loss/one": torch.tensor([1.0, 2.0, 6.0]), "loss/two": torch.tensor([0.5, 0.5, 2.0])}
    losses = method_of("supervised").losses(rows | {"query": torch.zeros(3, 2), "key": torch.zeros(3, 2)})
    assert {name: float(loss) for name, loss in losses.items()} == {"one": 3.0, "two": 1.0}
