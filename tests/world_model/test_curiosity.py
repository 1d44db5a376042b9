from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from configs.curiosity import CuriosityOptions
from configs.world_model import WorldModelOptions
from world_model.curiosity import (
    Arrivals,
    Bonus,
    ContrastiveBonus,
    DisagreementBonus,
    KnnBonus,
    MemoryBonus,
    Normaliser,
    Predict,
    SurpriseBonus,
)
from world_model.memory import EMPTY
from world_model.objectives.base import Objective

N, P, Z, A = 7, 5, 8, 2
MODEL = WorldModelOptions(latent_dim=Z, simnorm_group=4, hidden_dim=16, near_window=2)


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unit(*shape: int, seed: int) -> Tensor:
    return F.normalize(draw(*shape, seed=seed), dim=-1)


def arrivals(key: Tensor, *, first_episode: int = 1000, seed: int = 0) -> Arrivals:
    """Transitions to these keys, each of an episode of its own that memory knows nothing of."""
    rows = len(key)
    return Arrivals(
        state=draw(rows, Z + A, seed=seed),
        action=draw(rows, A, seed=seed + 1),
        latent=draw(rows, Z, seed=seed + 2),
        key=key,
        episode=torch.arange(first_episode, first_episode + rows),
        time=torch.arange(rows),
    )


def predicted(state: Tensor, action: Tensor) -> Tensor:
    """Something to expect: the first entries of the state."""
    return state[:, :P]


def make(
    kind: type[Bonus], memory: int = 40, *, key_dim: int = P, predict: Predict = predicted, **options: Any
) -> Bonus:
    chosen = CuriosityOptions(bonus="contrastive", memory=memory, **options)
    if kind is SurpriseBonus:
        objective = Objective.__new__(Objective)  # its keys are the latents themselves
        return SurpriseBonus(chosen, MODEL, key_dim, predict=predict, objective=objective)
    return kind(chosen, MODEL, Z + 2 * A if kind is DisagreementBonus else key_dim)


def remember(bonus: Bonus, key: Tensor, episode: int = 0, time: int = 0) -> None:
    """Each at a time of its own, far from the others."""
    rows = torch.arange(len(key))
    bonus.remember(key, torch.full((len(key),), episode), time + 100 * rows)


def cosine(a: Tensor, b: Tensor) -> float:
    return float(np.dot(a.numpy().astype(np.float64), b.numpy().astype(np.float64)))


def contrastive_by_hand(key: Tensor, others: list[Tensor], temperature: float) -> float:
    """Of a memory with 40 places, 30 of which hold a key."""
    matched = 40 / 30 * sum(math.exp(cosine(key, other) / temperature) for other in others)
    return math.log(1 + math.exp(1 / temperature) / matched)


def test_contrastive_equals_its_formula() -> None:
    bonus, past, new = make(ContrastiveBonus, temperature=0.2), unit(30, P, seed=1), unit(N, P, seed=2)
    remember(bonus, past)
    expected = [contrastive_by_hand(key, list(past), 0.2) for key in new]
    np.testing.assert_allclose(bonus(arrivals(new)).numpy(), expected, rtol=1e-4)


def test_what_is_imagined_is_compared_with_a_part_of_memory() -> None:
    """40 places, of which every third is looked at; 30 of them hold a key."""
    past, new = unit(30, P, seed=1), unit(N, P, seed=2)
    imagined = replace(arrivals(new), episode=torch.full((N,), EMPTY), is_imagined=True)
    contrastive = make(ContrastiveBonus, planning_memory=16)
    remember(contrastive, past)
    expected = [
        math.log(1 + math.exp(10) / (40 / 10 * sum(math.exp(10 * cosine(key, other)) for other in past[::3])))
        for key in new
    ]
    np.testing.assert_allclose(contrastive(imagined).numpy(), expected, rtol=1e-4)
    nearest = make(KnnBonus, planning_memory=16, neighbours=4)  # 14 of 40 places: 2 of 4 neighbours
    remember(nearest, past)
    expected = [
        math.log(1 + sum(sorted(float((key - other).norm()) for other in past[::3])[:2]) / 2) for key in new
    ]
    np.testing.assert_allclose(nearest(imagined).numpy(), expected, rtol=1e-4)
    for kind in (ContrastiveBonus, KnnBonus):
        whole = make(kind, planning_memory=40)
        remember(whole, past)
        torch.testing.assert_close(whole(imagined), whole(replace(imagined, is_imagined=False)))


def test_a_state_is_no_match_of_itself_or_its_neighbours() -> None:
    bonus, past = make(ContrastiveBonus), unit(30, P, seed=1)
    remember(bonus, past, episode=4)
    own = replace(arrivals(past[[3]]), episode=torch.tensor([4]), time=torch.tensor([302]))
    far = replace(own, time=torch.tensor([303]))
    others = [key for i, key in enumerate(past) if i != 3]
    assert bonus(own).item() == pytest.approx(contrastive_by_hand(past[3], others, 0.1), rel=1e-4)
    assert bonus(far).item() == pytest.approx(contrastive_by_hand(past[3], list(past), 0.1), rel=1e-3)


def test_without_memory_everything_is_as_novel() -> None:
    bonus = make(ContrastiveBonus)
    assert bonus(arrivals(unit(N, P, seed=2))).tolist() == pytest.approx([10.0] * N, abs=1e-3)


@pytest.mark.parametrize("kind", [ContrastiveBonus, KnnBonus, SurpriseBonus, DisagreementBonus])
def test_the_bonus_falls_as_transitions_come_again(kind: type[Bonus]) -> None:
    """In the mean; and it stays higher for those that never did.

    Each time their keys enter memory, and what predicts learns from them: an ensemble, or the dynamics whose
    error surprise is.
    """
    torch.manual_seed(0)
    dynamics = torch.nn.Sequential(torch.nn.Linear(Z + 2 * A, 64), torch.nn.Tanh(), torch.nn.Linear(64, 16))
    bonus = make(
        kind,
        memory=200,
        key_dim=16,
        neighbours=5,
        predict=lambda state, action: dynamics(torch.cat((state, action), dim=1)),
    )
    if isinstance(bonus, DisagreementBonus):  # outputs start at zero, where all agree
        torch.nn.init.normal_(list(bonus.members.parameters())[-2], std=0.3)
    familiar, novel = arrivals(unit(20, 16, seed=2)), arrivals(unit(20, 16, seed=3), seed=50)
    remember(bonus, unit(100, 16, seed=1))
    optimizer = torch.optim.Adam([*bonus.parameters(), *dynamics.parameters()], lr=0.01)
    means = [bonus(familiar).mean().item()]
    for visit in range(4):
        remember(bonus, familiar.key, episode=visit + 1)
        for _ in range(12):
            loss = bonus.loss(familiar)
            if loss is None:
                loss = (dynamics(torch.cat((familiar.state, familiar.action), 1)) - familiar.key).square()
            else:
                assert loss.shape == (20,)
            optimizer.zero_grad()
            loss.mean().backward()
            optimizer.step()
        means.append(bonus(familiar).mean().item())
    assert all(later < earlier for earlier, later in pairwise(means)), means
    assert means[-1] < 0.5 * bonus(novel).mean().item()


def test_particle_entropy_is_the_mean_distance_to_the_nearest() -> None:
    bonus, past, new = make(KnnBonus, neighbours=3), unit(30, P, seed=1), unit(N, P, seed=2)
    remember(bonus, past)
    expected = []
    for key in new:
        distances = sorted(float((key - other).norm()) for other in past)
        expected.append(math.log(1 + sum(distances[:3]) / 3))
    np.testing.assert_allclose(bonus(arrivals(new)).numpy(), expected, rtol=1e-4)


def test_surprise_leaves_out_what_is_near_the_key_that_came() -> None:
    bonus, past = make(SurpriseBonus, near=0.3, temperature=0.3), unit(30, P, seed=1)
    remember(bonus, past)
    new = arrivals(unit(N, P, seed=2))
    expected = []
    for state, key in zip(new.state, new.key, strict=True):
        guess = F.normalize(state[:P], dim=0)
        far = [other for other in past if cosine(key, other) <= 0.3]
        assert len(far) < len(past)
        others = sum(math.exp(cosine(guess, other) / 0.3) for other in far)
        positive = math.exp(cosine(guess, key) / 0.3)
        expected.append(-math.log(positive / (positive + others)))
    np.testing.assert_allclose(bonus(new).numpy(), expected, rtol=1e-4)


def test_copies_of_what_came_do_not_make_it_surprising() -> None:
    bonus = make(SurpriseBonus)
    remember(bonus, unit(30, P, seed=1))
    new = arrivals(unit(1, P, seed=2))
    before = bonus(new).item()
    remember(bonus, new.key.expand(10, -1), episode=9)
    assert bonus(new).item() <= before


@pytest.mark.parametrize("kind", [ContrastiveBonus, SurpriseBonus, KnnBonus])
def test_empty_places_and_states_that_never_came_are_nobodys_match(kind: type[Bonus]) -> None:
    bonus, past, new = make(kind, memory=60), unit(30, P, seed=1), arrivals(unit(N, P, seed=2))
    remember(bonus, past)
    before = bonus(new)
    never = torch.full((20,), EMPTY)
    bonus.remember(new.key.repeat(3, 1)[:20], never, torch.arange(20))
    torch.testing.assert_close(bonus(new), before)


def test_memory_is_a_ring() -> None:
    """No key is older than its size over what an update brings."""
    bonus = make(ContrastiveBonus, memory=40)
    for update in range(8):
        bonus.remember(unit(10, P, seed=update), torch.full((10,), update), torch.arange(10))
    assert isinstance(bonus, MemoryBonus)
    assert bonus.memory.episode.tolist() == [7] * 10 + [6] * 10 + [5] * 10 + [4] * 10


def test_what_memory_kept_is_measured() -> None:
    bonus, key = make(ContrastiveBonus), unit(N, P, seed=1)
    aged = F.normalize(key + 0.3 * draw(N, P, seed=2), dim=1)
    new = arrivals(key)
    bonus.remember(
        torch.cat((aged, unit(5, P, seed=3))), torch.arange(1000, 1000 + N + 5), torch.arange(N + 5)
    )
    assert bonus.metrics(new)["kept"] == 1.0, "keys of the newest update have had no time to age"
    bonus.remember(key, new.episode, new.time)
    expected = np.mean([cosine(a, b) for a, b in zip(key, aged, strict=True)])
    assert bonus.metrics(new)["kept"].item() == pytest.approx(expected, rel=1e-4)


def test_normalised_bonuses_do_not_depend_on_scale_or_offset() -> None:
    values = [draw(50, seed=seed) for seed in range(20)]
    counts = torch.arange(50) < 40
    found = []
    for scale, offset in ((1.0, 0.0), (100.0, -30.0)):
        normaliser = Normaliser(clip=2.0, centred=True)
        for value in values:
            normaliser.follow(scale * value + offset, counts)
        found.append(normaliser(scale * values[0] + offset))
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-3)
    assert found[0].abs().max() == 2.0


def test_normaliser_knows_mean_and_deviation_of_what_counts() -> None:
    normaliser, value = Normaliser(clip=9.0, centred=True), draw(1000, seed=1)
    counts = torch.arange(1000) < 600
    normaliser.follow(3 * value.where(counts, 50.0) + 7, counts)
    assert normaliser.mean.item() == pytest.approx(3 * value[:600].mean().item() + 7, rel=1e-4)
    assert normaliser.deviation.item() == pytest.approx(3 * value[:600].std(correction=0).item(), rel=1e-3)


def test_what_is_not_centred_is_never_a_punishment() -> None:
    """Over its deviation alone; clipped as far from the mean as the other, and invariant to its scale."""
    values, counts = draw(500, seed=2).square(), torch.ones(500).bool()
    found = []
    for scale in (1.0, 30.0):
        centred, plain = Normaliser(clip=2.0, centred=True), Normaliser(clip=2.0, centred=False)
        for normaliser in (centred, plain):
            normaliser.follow(scale * values, counts)
        found.append(plain(scale * values))
        offset = found[-1] - centred(scale * values)
        torch.testing.assert_close(offset, (plain.mean / plain.deviation).expand(500), rtol=1e-4, atol=1e-5)
    small = values < values.mean()
    torch.testing.assert_close(
        found[0][small], (values / values.std(correction=0))[small], rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-3)
    assert found[0].min() >= 0
