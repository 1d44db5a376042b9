from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from configs.schema import Config
from configs.world_model import ObjectiveName
from envs.spec import EnvSpec
from world_model.batch import Batch, Latents
from world_model.nearness import is_far, is_near
from world_model.objectives.contrastive import Contrastive
from world_model.objectives.registry import OBJECTIVES

H, W, TEMPERATURE = 3, 2, 0.2
# the same state twice, its neighbours, a distant part of its episode, and other episodes at the same time
EPISODE = torch.tensor([4, 4, 4, 4, 9, 9, 7])
TIME = torch.tensor([10, 10, 12, 40, 10, 16, 11])


@pytest.fixture
def batch(env_spec: EnvSpec, make_batch: Callable[..., Batch]) -> Batch:
    return replace(make_batch(env_spec, horizon=H, rows=len(EPISODE)), episode=EPISODE, time=TIME)


@pytest.fixture
def latents() -> Latents:
    generator = torch.Generator().manual_seed(0)
    z, z_key = torch.randn(2, len(EPISODE), H + 1, 16, dtype=torch.float64, generator=generator)
    return Latents(z=z, z_key=z_key, last_action=torch.zeros(*z.shape[:2], 1))


@pytest.fixture
def make_objective(env_spec: EnvSpec, tiny_config: Callable[..., Config]) -> Callable[..., Contrastive]:
    def make(similarity: Literal["cosine", "bilinear"] = "cosine", **variation: object) -> Contrastive:
        varied = {"similarity": similarity, "near_window": W, "temperature": TEMPERATURE, **variation}
        options = tiny_config(world_model=varied).world_model
        torch.manual_seed(0)
        objective = Contrastive(env_spec, options, terms=("augmentation", "temporal", "consistency")).double()
        with torch.no_grad():
            for parameter in objective.parameters():  # key projection and projection differ, as in training
                parameter.add_(0.3 * torch.randn_like(parameter))
        return objective

    return make


def project(network: nn.Module, z: Tensor) -> np.ndarray:
    """Two hidden layers with layer normalisation and SiLU, from raw arrays."""
    raw = {name: value.numpy() for name, value in network.state_dict().items()}
    x = z.numpy()
    for i in (0, 3):
        x = x @ raw[f"{i}.weight"].T + raw[f"{i}.bias"]
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        x = x * raw[f"{i + 1}.weight"] + raw[f"{i + 1}.bias"]
        x = x / (1 + np.exp(-x))
    return x @ raw["6.weight"].T + raw["6.bias"]


def near(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] == other[0] and abs(one[1] - other[1]) <= W


def cosine(q: np.ndarray, k: np.ndarray) -> float:
    return float(q @ k / np.sqrt((q @ q) * (k @ k))) / TEMPERATURE


def nce(states: list[tuple[int, int]], score: Callable[[int, int], float]) -> list[float]:
    """InfoNCE of every row against all keys but those near its own in time."""
    losses = []
    for i, own in enumerate(states):
        negatives = [j for j, other in enumerate(states) if j != i and not near(own, other)]
        losses.append(np.log(sum(np.exp(score(i, j)) for j in [i, *negatives])) - score(i, i))
    return losses


def test_masks_equal_loops() -> None:
    states = list(zip(EPISODE.tolist(), TIME.tolist(), strict=True))
    near_mask, far_mask = is_near(EPISODE, TIME, W), is_far(EPISODE, TIME, W)
    for (i, one), (j, other) in product(enumerate(states), repeat=2):
        assert near_mask[i, j] == (i != j and near(one, other))
        assert far_mask[i, j] == (one[0] == other[0] and not near(one, other))


@pytest.mark.parametrize("similarity", ["cosine", "bilinear"])
def test_augmentation_equals_loops(
    similarity: str, make_objective: Callable[..., Contrastive], batch: Batch, latents: Latents
) -> None:
    objective = make_objective(similarity)
    query = project(objective.projection, latents.z[:, 0])
    key = project(objective.key_projection, latents.z_key[:, 0])

    def score(i: int, j: int) -> float:
        if similarity == "cosine":
            return cosine(query[i], key[j])
        return float(query[i] @ objective.bilinear.detach().numpy() @ key[j])

    expected = nce(list(zip(EPISODE.tolist(), TIME.tolist(), strict=True)), score)
    np.testing.assert_allclose(objective(batch, latents)["augmentation"].detach(), expected, rtol=1e-9)


def test_temporal_equals_loops_over_all_keys_of_the_batch(
    make_objective: Callable[..., Contrastive], batch: Batch, latents: Latents
) -> None:
    objective = make_objective()
    query, key = project(objective.projection, latents.z), project(objective.key_projection, latents.z_key)
    places = [(row, k) for row in range(len(EPISODE)) for k in range(1, H + 1)]
    states = [(int(EPISODE[row]), int(TIME[row]) + k) for row, k in places]
    expected = nce(states, lambda i, j: cosine(query[places[i]], key[places[j]]))
    found = objective(batch, latents)["temporal"].detach()
    np.testing.assert_allclose(found, np.reshape(expected, (-1, H)), rtol=1e-9)


def test_near_keys_are_no_negatives_and_distant_ones_of_the_episode_are(
    make_objective: Callable[..., Contrastive], batch: Batch, latents: Latents
) -> None:
    """Changing one key changes the losses of exactly the rows that it is a positive or negative of."""
    objective = make_objective()
    before = objective(batch, latents)
    z_key = latents.z_key.clone()
    z_key[0, 0] += torch.randn(16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    changed = objective(batch, replace(latents, z_key=z_key))["augmentation"] != before["augmentation"]
    # itself; its copy and its neighbour are near; the rest of its episode and other episodes are negatives
    assert changed.tolist() == [True, False, False, True, True, True, True]


def test_consistency_is_the_mean_squared_error_of_imagined_latents(
    make_objective: Callable[..., Contrastive], batch: Batch, latents: Latents
) -> None:
    shifted = replace(latents, z=latents.z_key + torch.arange(H + 1.0)[:, None])
    expected = torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64).expand(len(EPISODE), H)
    torch.testing.assert_close(make_objective()(batch, shifted)["consistency"], expected)


@pytest.mark.parametrize(
    ("name", "terms"),
    [
        ("contrastive", {"augmentation", "temporal", "consistency"}),
        ("predictive", {"consistency"}),
        ("augmentation", {"augmentation"}),
        ("temporal", {"temporal"}),
        ("byol", {"augmentation", "temporal", "consistency"}),
        ("barlow", {"augmentation", "temporal", "consistency"}),
        ("vicreg", {"augmentation", "temporal", "consistency"}),
        ("triplet", {"temporal", "consistency"}),
        ("margin", {"temporal", "consistency"}),
        ("reconstruction", {"observation", "future", "consistency"}),
        ("none", set()),
    ],
)
def test_objectives_by_name(
    name: ObjectiveName,
    terms: set[str],
    env_spec: EnvSpec,
    tiny_config: Callable[..., Config],
    batch: Batch,
    latents: Latents,
) -> None:
    objective = OBJECTIVES[name](env_spec, tiny_config().world_model).double()
    assert objective(batch, latents).keys() == objective.weights.keys() == terms


def test_metrics_tell_a_good_representation_from_a_collapsed_one(
    make_objective: Callable[..., Contrastive], batch: Batch, latents: Latents
) -> None:
    objective = make_objective()
    objective.key_projection.load_state_dict(objective.projection.state_dict())
    perfect = objective.metrics(batch, replace(latents, z=latents.z_key))
    collapsed = objective.metrics(batch, replace(latents, z_key=torch.ones_like(latents.z_key)))
    for k in range(H + 1):
        assert perfect[f"retrieval_{k}"] == 1
        assert collapsed[f"retrieval_{k}"] == 0


def test_far_negatives_are_counted(
    make_objective: Callable[..., Contrastive], batch: Batch, latents: Latents
) -> None:
    states = [(int(e), int(t) + k) for e, t in zip(EPISODE, TIME, strict=True) for k in range(1, H + 1)]
    far = sum(one[0] == other[0] and not near(one, other) for one, other in product(states, repeat=2))
    found = make_objective().metrics(batch, latents)["far_negatives"]
    assert float(found) == pytest.approx(far / len(states))


# Variations of the temporal term.

PLACES = [(row, k) for row in range(len(EPISODE)) for k in range(1, H + 1)]
STATES = [(int(EPISODE[row]), int(TIME[row]) + k) for row, k in PLACES]


def varied_nce(
    query: np.ndarray,
    key: np.ndarray,
    *,
    positives: str = "own",
    decoupled: bool = False,
    hardness: float = 0.0,
    queue: list[tuple[np.ndarray, tuple[int, int]]] = [],  # noqa: B006  # never changed
) -> list[float]:
    """The varied loss of every row, from the definitions in the papers."""
    losses = []
    for i, own in enumerate(STATES):
        positive = [
            j for j, state in enumerate(STATES) if j == i or (positives == "near" and near(own, state))
        ]
        scores = [
            cosine(query[i], key[j]) for j, state in enumerate(STATES) if j != i and not near(own, state)
        ]
        scores += [cosine(query[i], earlier) for earlier, state in queue if not near(own, state)]
        importance = np.exp(hardness * np.array(scores))
        negatives = float(np.mean(importance / np.mean(importance) * np.exp(scores))) * len(scores)
        hits = [np.exp(cosine(query[i], key[j])) for j in positive]
        denominator = negatives + (0.0 if decoupled else sum(hits))
        losses.append(float(np.mean([-np.log(hit / denominator) for hit in hits])))
    return losses


@pytest.mark.parametrize(
    "variation",
    [
        {"positives": "near"},
        {"decoupled": True},
        {"hardness": 0.5},
        {"positives": "near", "decoupled": True, "hardness": 0.25},
    ],
)
def test_variations_equal_loops(
    variation: dict[str, Any], make_objective: Callable[..., Contrastive], batch: Batch, latents: Latents
) -> None:
    objective = make_objective(**variation)
    query = project(objective.projection, latents.z)
    key = project(objective.key_projection, latents.z_key)
    rows, steps = zip(*PLACES, strict=True)
    expected = varied_nce(query[rows, steps], key[rows, steps], **variation)
    found = objective(batch, latents)["temporal"].detach()
    np.testing.assert_allclose(found, np.reshape(expected, (-1, H)), rtol=1e-9)


def test_the_queue_holds_keys_of_earlier_batches(
    make_objective: Callable[..., Contrastive], batch: Batch, latents: Latents
) -> None:
    """At first it is empty; then its keys are negatives, but not of states that are near them."""
    objective, size = make_objective(queue=40), 40
    plain = make_objective()(batch, latents)["temporal"]
    torch.testing.assert_close(objective(batch, latents)["temporal"], plain)
    queue: list[tuple[np.ndarray, tuple[int, int]]] = []
    rows, steps = zip(*PLACES, strict=True)
    for shift in (0, 3):  # the second batch pushes some of the first one's 21 keys out
        now = replace(batch, time=TIME + shift)
        z_key = latents.z_key + shift
        objective(now, replace(latents, z_key=z_key))
        key = project(objective.key_projection, z_key)[rows, steps]
        objective.after_step()
        states = [(episode, time + shift) for episode, time in STATES]
        queue = [*zip(key, states, strict=True), *queue][:size]
    query = project(objective.projection, latents.z)[rows, steps]
    key = project(objective.key_projection, latents.z_key)[rows, steps]
    found = objective(batch, latents)["temporal"].detach()
    np.testing.assert_allclose(found, np.reshape(varied_nce(query, key, queue=queue), (-1, H)), rtol=1e-9)


def test_the_queue_is_saved(
    make_objective: Callable[..., Contrastive], batch: Batch, latents: Latents
) -> None:
    objective, other = make_objective(queue=40), make_objective(queue=40)
    objective(batch, latents)
    objective.after_step()
    other.load_state_dict(objective.state_dict())
    torch.testing.assert_close(other(batch, latents), objective(batch, latents), rtol=0, atol=0)
    assert (other(batch, latents)["temporal"] != make_objective()(batch, latents)["temporal"]).any()


@pytest.mark.parametrize(
    ("variation", "names"),
    [({"queue": 9}, "queue"), ({"hardness": 1.0, "positives": "near"}, "positives and hardness")],
)
def test_variations_without_a_temporal_term_are_refused(
    variation: dict[str, Any], names: str, tiny_config: Callable[..., Config]
) -> None:
    with pytest.raises(ValueError, match=f"{names} vary the temporal term .* which byol does not have"):
        tiny_config(world_model={"objective": "byol", **variation})
    tiny_config(world_model={"objective": "temporal", **variation})
