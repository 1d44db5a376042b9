"""Objectives beside the contrastive family, against loops over their losses' definitions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from configs.schema import Config, ObsName
from configs.world_model import ObjectiveName
from envs.spec import EnvSpec
from world_model.batch import Batch, Latents
from world_model.model import WorldModel
from world_model.nearness import choose_far, is_near
from world_model.objectives.base import Objective
from world_model.objectives.distances import margin_of_both_pairs
from world_model.objectives.reconstruction import Decoder, Reconstruction
from world_model.objectives.registry import OBJECTIVES
from world_model.objectives.supervised import Supervised

B, H, Z = 6, 3, 16
EPISODE = torch.tensor([4, 4, 4, 9, 9, 7])
TIME = torch.tensor([10, 11, 40, 10, 16, 11])

MakeObjective = Callable[..., Objective]


@pytest.fixture
def batch(env_spec: EnvSpec, make_batch: Callable[..., Batch]) -> Batch:
    return replace(make_batch(env_spec, horizon=H, rows=B), episode=EPISODE, time=TIME)


@pytest.fixture
def latents() -> Latents:
    generator = torch.Generator().manual_seed(0)
    z, z_key = torch.randn(2, B, H + 1, Z, dtype=torch.float64, generator=generator)
    return Latents(z=z.requires_grad_(), z_key=z_key, last_action=torch.zeros(B, H + 1, 1))


@pytest.fixture
def make_objective(env_spec: EnvSpec, tiny_config: Callable[..., Config]) -> MakeObjective:
    def make(name: ObjectiveName, **options: object) -> Objective:
        torch.manual_seed(0)
        objective = OBJECTIVES[name](env_spec, tiny_config(world_model=options).world_model).double()
        with torch.no_grad():
            for parameter in objective.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        return objective

    return make


def queries_and_keys(objective: Any, latents: Latents) -> tuple[np.ndarray, np.ndarray]:
    with torch.no_grad():
        query = objective.projection(latents.z)
        return query.numpy(), objective.key_projection(latents.z_key).numpy()


@pytest.mark.parametrize("pairs", [0, 4, 10])
def test_negatives_are_far_in_time_where_the_batch_allows(pairs: int) -> None:
    """Windows of three keys, `pairs` of which share an episode with another window."""
    episode = torch.tensor([*range(pairs), *range(pairs), *range(100, 120 - 2 * pairs)]).repeat_interleave(3)
    time = torch.tensor([*(pairs * [0]), *((20 - pairs) * [7])])
    time = (time[:, None] + torch.arange(3)).flatten()
    near = is_near(episode, time, 2)
    chosen = choose_far(near, episode[:, None] == episode)
    assert not near[torch.arange(60), chosen].any()
    assert (chosen != torch.arange(60)).all()
    own = episode[chosen] == episode
    assert own.sum() == 6 * pairs, "every row of a pair has one of its own episode, no other row can"
    offsets = torch.bincount(chosen % 3, minlength=3)
    assert (offsets > 5).all(), f"keys of one horizon only: {offsets.tolist()}"


def test_a_row_without_a_negative_gets_another_row() -> None:
    everything = torch.ones(3, 3, dtype=torch.bool)
    chosen = choose_far(everything, everything)
    assert (chosen != torch.arange(3)).all()


def test_byol_compares_predictions_with_keys(
    make_objective: MakeObjective, batch: Batch, latents: Latents
) -> None:
    objective: Any = make_objective("byol")
    query, key = queries_and_keys(objective, latents)
    prediction = objective.predictor(torch.from_numpy(query)).detach().numpy()
    cosine = (prediction * key).sum(-1) / np.linalg.norm(prediction, axis=-1) / np.linalg.norm(key, axis=-1)
    found = objective(batch, latents)
    np.testing.assert_allclose(found["augmentation"].detach(), 2 - 2 * cosine[:, 0], rtol=1e-9)
    np.testing.assert_allclose(found["temporal"].detach(), 2 - 2 * cosine[:, 1:], rtol=1e-9)


@pytest.mark.parametrize("name", ["barlow", "vicreg"])
def test_statistics_are_those_of_one_step(
    name: ObjectiveName, make_objective: MakeObjective, batch: Batch, latents: Latents
) -> None:
    """The losses themselves have their own oracles; here: which rows they see, and their scale."""
    from world_model.losses import barlow_twins, vicreg

    objective = make_objective(name)
    query, key = (torch.from_numpy(rows) for rows in queries_and_keys(objective, latents))
    by_step = [
        barlow_twins(query[:, k], key[:, k]) / query.shape[-1]
        if name == "barlow"
        else vicreg(query[:, k], key[:, k], similarity=1.0, variance=1.0, covariance=0.04)
        for k in range(H + 1)
    ]
    found = objective(batch, latents)
    torch.testing.assert_close(found["augmentation"], by_step[0], check_dtype=False)
    torch.testing.assert_close(found["temporal"], torch.stack(by_step[1:])[None])


def test_triplet_and_margin_equal_loops(
    make_objective: MakeObjective, batch: Batch, latents: Latents
) -> None:
    places = [(row, k) for row in range(B) for k in range(1, H + 1)]
    state = [(int(EPISODE[row]), int(TIME[row]) + k) for row, k in places]
    episode, time = (torch.tensor(each) for each in zip(*state, strict=True))
    chosen = choose_far(is_near(episode, time, 2), episode[:, None] == episode)
    for name in ("triplet", "margin"):
        objective = make_objective(name, near_window=2)
        query, key = queries_and_keys(objective, latents)
        expected = []
        for i, own in enumerate(state):
            far = [j for j, (e, _) in enumerate(state) if e != own[0]]
            later = [j for j, (e, time) in enumerate(state) if e == own[0] and abs(time - own[1]) > 2]
            j = int(chosen[i])
            assert j in (later or far)
            row, k = places[i]
            to_key = float(np.linalg.norm(query[row, k] - key[row, k]))
            to_far = float(np.linalg.norm(query[row, k] - key[places[j]]))
            if name == "triplet":
                expected.append(max(0.0, to_key - to_far + 1))
            else:
                expected.append((to_key**2 + max(0.0, 1 - to_far) ** 2) / 2)
        found = objective(batch, latents)["temporal"].detach()
        np.testing.assert_allclose(found, np.reshape(expected, (B, H)), rtol=1e-9)


def test_margin_of_both_pairs_equals_loops() -> None:
    query, key, negative = torch.randn(3, 9, 2, generator=torch.Generator().manual_seed(3)).double()
    rows = zip(query.numpy(), key.numpy(), negative.numpy(), strict=True)
    distances = [(float(np.linalg.norm(q - k)), float(np.linalg.norm(q - n))) for q, k, n in rows]
    for margin in (0.5, 2.0):
        expected = [(near**2 + max(0.0, margin - far) ** 2) / 2 for near, far in distances]
        found = margin_of_both_pairs(query, key, negative, margin=margin)
        np.testing.assert_allclose(found, expected, rtol=1e-9)
        assert 0 < sum(far < margin for _, far in distances) < len(distances), "both sides of the hinge"


def test_reconstruction_is_the_error_of_the_newest_frame(
    make_objective: MakeObjective, batch: Batch, latents: Latents, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = make_objective("reconstruction")
    assert isinstance(objective, Reconstruction)
    stack = batch.stack
    drawn = torch.full((B * (H + 1), *batch.frames.shape[2:]), 0.25, dtype=torch.float64)
    monkeypatch.setattr(objective.decoder, "forward", lambda z: drawn)
    found = objective(batch, latents)
    for row in range(B):
        for k in range(H + 1):
            pixels = batch.frames[row, k + stack - 1].double() / 255
            error = float((pixels - 0.25).square().mean())
            loss = found["observation"][row] if k == 0 else found["future"][row, k - 1]
            assert float(loss) == pytest.approx(error, rel=1e-9)


@pytest.mark.parametrize("size", [64, 84, 33])
def test_the_decoder_draws_frames_of_any_size(size: int) -> None:
    assert Decoder(Z, (3, size, size), 4)(torch.zeros(2, Z)).shape == (2, 3, size, size)


def test_the_decoder_learns_to_draw() -> None:
    """Four latents, four pictures: after some steps each is drawn with a small error."""
    torch.manual_seed(0)
    pictures, z = torch.rand(4, 3, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3), torch.eye(4)
    decoder = Decoder(4, (3, 32, 32), 8)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=1e-2)

    def error() -> Tensor:
        return (decoder(z) - pictures).square().mean()

    before = float(error().detach())
    for _ in range(100):
        optimizer.zero_grad()
        error().backward()
        optimizer.step()
    assert float(error().detach()) < 0.1 * before


def test_supervised_is_the_error_of_the_vector(
    make_objective: MakeObjective, batch: Batch, latents: Latents
) -> None:
    objective = make_objective("supervised")
    assert isinstance(objective, Supervised)
    found = {name: loss.detach() for name, loss in objective(batch, latents).items()}
    for row in range(B):
        for k in range(H + 1):
            with torch.no_grad():
                told = objective.head(latents.z[row, k]).numpy()
            label = [np.sign(x) * np.log1p(abs(x)) for x in batch.proprio[row, k].double().tolist()]
            error = sum((t - y) ** 2 for t, y in zip(told, label, strict=True)) / len(label)
            loss = found["label"][row] if k == 0 else found["future_label"][row, k - 1]
            assert float(loss) == pytest.approx(error, rel=1e-5)
            if k:
                gap = (latents.z[row, k] - latents.z_key[row, k]).square().mean()
                assert found["consistency"][row, k - 1].item() == pytest.approx(gap.item(), rel=1e-9)


@pytest.mark.parametrize("obs", get_args(ObsName))
def test_supervised_learns_its_labels(
    obs: ObsName, env_spec: EnvSpec, tiny_config: Callable[..., Config], batch: Batch
) -> None:
    """From pixels as well, where the agent never sees the vector."""
    torch.manual_seed(0)
    config = tiny_config(
        obs=obs, world_model={"objective": "supervised", "encoder": {"shift_padding": 0}, "latent_dim": 64}
    )
    model = WorldModel(env_spec, config.world_model, obs)
    optimizer = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), lr=1e-2)
    errors = []
    for _ in range(150):
        losses = model.objective(batch, model.encode(batch, torch.Generator().manual_seed(0)))
        error = losses["label"].mean() + losses["future_label"].mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(float(error.detach()))
    assert errors[-1] < 0.1 * errors[0]


@pytest.mark.parametrize(
    "name", ["byol", "barlow", "vicreg", "triplet", "margin", "reconstruction", "supervised"]
)
def test_no_gradient_reaches_the_keys(
    name: ObjectiveName, make_objective: MakeObjective, batch: Batch, latents: Latents
) -> None:
    objective = make_objective(name)
    z_key = latents.z_key.clone().requires_grad_()
    objective(batch, replace(latents, z_key=z_key))
    total = sum(
        loss.sum()
        for term, loss in objective(batch, replace(latents, z_key=z_key)).items()
        if term != "consistency"  # its keys come without gradient from the model
    )
    assert isinstance(total, Tensor)
    total.backward()
    assert z_key.grad is None
    assert all(
        parameter.grad is None for name, parameter in objective.named_parameters() if name.startswith("key_")
    )
    assert latents.z.grad is not None and latents.z.grad.any()


def test_beyond_the_end_stands_what_was_last_seen(batch: Batch) -> None:
    terminated = torch.zeros(B, H, dtype=torch.bool)
    terminated[0, :], terminated[1, H - 1] = True, True
    rows = torch.randn(B, H + 1, 5, generator=torch.Generator().manual_seed(0))
    found = replace(batch, terminated=terminated).last_seen(rows)
    assert (found[0, 1:] == rows[0, 1]).all()
    assert (found[1:] == rows[1:]).all()


@pytest.mark.parametrize("name", ["barlow", "vicreg"])
def test_ends_of_episodes_do_not_make_collapse_look_good(
    make_objective: MakeObjective, batch: Batch, latents: Latents, name: str
) -> None:
    objective: Any = make_objective(name)
    collapsed = torch.full((B, H + 1, 8), 3.0, dtype=torch.float64)
    objective.compared = lambda _: (collapsed, collapsed)
    terminated = torch.zeros(B, H, dtype=torch.bool)
    alike = objective(batch, latents)["temporal"]
    terminated[:2] = True
    ended = objective(replace(batch, terminated=terminated), latents)["temporal"]
    torch.testing.assert_close(ended, alike)
