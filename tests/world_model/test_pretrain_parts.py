"""Schedules, LARS, and where batches are drawn from."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from configs.pretrain import WINDOWED, BatchOptions, OptimizerOptions, PretrainConfig
from configs.views import find_recipe
from configs.world_model import EncoderOptions
from envs.episodes import EpisodeError
from tests.points import Points, config_of
from world_model.pretrain.optimizers import LARS, make_optimizer
from world_model.pretrain.samples import Pairs, Windows
from world_model.pretrain.schedule import learning_rate_factor, momentum_step
from world_model.pretrain.source import Source
from world_model.pretrain.views import KeyedViews


def test_step_size_rises_and_falls() -> None:
    assert learning_rate_factor(0.05, 0.1, "cosine") == 0.5
    assert learning_rate_factor(0.1, 0.1, "cosine") == 1
    assert learning_rate_factor(0.55, 0.1, "cosine") == pytest.approx(0.5)
    assert learning_rate_factor(1.0, 0.1, "cosine") == pytest.approx(0)
    assert learning_rate_factor(1.0, 0.1, "constant") == learning_rate_factor(0.0, 0.0, "constant") == 1
    assert learning_rate_factor(1.0, 1.0, "cosine") == 1


def test_momentum_follows_the_cosine_of_byol() -> None:
    for progress in (0.0, 0.3, 1.0):
        tau = 1 - (1 - 0.996) * (math.cos(math.pi * progress) + 1) / 2  # section 3.2 of the paper
        assert momentum_step(progress, 0.004, "cosine") == pytest.approx(1 - tau)
        assert momentum_step(progress, 0.004, "constant") == 0.004


def test_lars_follows_its_algorithm() -> None:
    rng = np.random.default_rng(0)
    weight, gain = rng.normal(size=(3, 4)), rng.normal(size=4)
    module = torch.nn.Module()
    module.weight = torch.nn.Parameter(torch.from_numpy(weight.copy()))
    module.gain = torch.nn.Parameter(torch.from_numpy(gain.copy()))
    optimizer = make_optimizer(module, OptimizerOptions(name="lars", weight_decay=0.01), 0.3)
    assert isinstance(optimizer, LARS)
    speed, gain_speed = np.zeros((3, 4)), np.zeros(4)
    for _ in range(3):
        slope, gain_slope = rng.normal(size=(3, 4)), rng.normal(size=4)
        module.weight.grad, module.gain.grad = torch.from_numpy(slope), torch.from_numpy(gain_slope)
        optimizer.step()
        decayed = slope + 0.01 * weight
        local = 0.001 * math.sqrt((weight**2).sum()) / math.sqrt((decayed**2).sum())
        speed, gain_speed = 0.9 * speed + local * decayed, 0.9 * gain_speed + gain_slope
        weight, gain = weight - 0.3 * speed, gain - 0.3 * gain_speed
    np.testing.assert_allclose(module.weight.detach(), weight, rtol=1e-12)
    np.testing.assert_allclose(module.gain.detach(), gain, rtol=1e-12)


def test_lars_moves_weights_that_are_zero() -> None:
    weight = torch.nn.Parameter(torch.zeros(2, 2))
    weight.grad = torch.ones(2, 2)
    LARS([{"params": [weight], "weight_decay": 0.0}], 0.1).step()
    torch.testing.assert_close(weight.detach(), torch.full((2, 2), -0.1))


def test_weights_decay_and_biases_do_not() -> None:
    optimizer = make_optimizer(torch.nn.Linear(3, 2), OptimizerOptions(weight_decay=0.1), 1e-3)
    decays = {group["params"][0].shape: group["weight_decay"] for group in optimizer.param_groups}
    assert decays == {(2, 3): 0.1, (2,): 0.0}


def test_later_positives_stay_in_their_episode_within_their_range() -> None:
    points = Points()
    config = config_of("simclr", positives={"by": "both", "min_gap": 3, "max_gap": 6}, batch={"size": 500})
    config = PretrainConfig(**config.model_dump() | {"positives": {"by": "both", "min_gap": 3, "max_gap": 6}})
    samples = Source(points, config).draw(0)
    assert isinstance(samples, Pairs)
    gaps = samples.later_time - samples.time
    assert set(gaps.tolist()) == {3, 4, 5, 6}
    assert (samples.later_time < torch.from_numpy(points.lengths)[samples.episode]).all()
    starts = {(e, t) for e, t in zip(samples.episode.tolist(), samples.time.tolist(), strict=True)}
    assert max(t for e, t in starts if e == 1) == 20 - 1 - 3  # the last that has a later one
    for row in range(20):
        episode, later = samples.episode[row : row + 1].numpy(), samples.later_time[row : row + 1].numpy()
        np.testing.assert_array_equal(samples.later[row], points.stacks(episode, later, 2)[0])
        np.testing.assert_array_equal(
            samples.later_proprio[row], points.rows("proprio", episode, later, 1)[0, 0]
        )


def test_observations_are_drawn_alike() -> None:
    config = PretrainConfig(batch=BatchOptions(size=40_000), stack=1)
    samples = Source(Points((5, 1, 10)), config).draw(3)
    assert isinstance(samples, Pairs)
    assert samples.later is samples.pixels
    counts = np.bincount(samples.episode * 10 + samples.time, minlength=30).reshape(3, 10)
    assert (counts[0, 5:] == 0).all() and (counts[1, 1:] == 0).all()
    seen = counts[counts > 0]
    assert len(seen) == 16 and abs(seen - 2500).max() < 5 * 50


def test_a_batch_depends_on_seed_and_update_alone() -> None:
    config = config_of("temporal")
    source = Source(Points(), config)
    first, again, other = source.draw(4), Source(Points(), config).draw(4), source.draw(5)
    assert isinstance(first, Windows) and isinstance(again, Windows) and isinstance(other, Windows)
    torch.testing.assert_close(vars(first.batch), vars(again.batch), rtol=0, atol=0)
    assert not torch.equal(first.batch.time, other.batch.time)
    reseeded = Source(Points(), config.model_copy(update={"seed": 2})).draw(4)
    assert isinstance(reseeded, Windows)
    assert not torch.equal(first.batch.time, reseeded.batch.time)


def test_processes_share_a_batch() -> None:
    source = Source(Points(), config_of("simclr"))
    whole, parts = source.draw(0), [source.draw(0, rank, 3) for rank in range(3)]
    assert isinstance(whole, Pairs)
    for name, value in vars(whole).items():
        torch.testing.assert_close(value, torch.cat([vars(part)[name] for part in parts]))


def test_episodes_that_are_too_short_are_left_out_or_refused() -> None:
    config = config_of("temporal")
    samples = Source(Points((3, 8)), config).draw(0)
    assert isinstance(samples, Windows)
    assert set(samples.batch.episode.tolist()) == {1}
    with pytest.raises(EpisodeError, match=r"--model\.horizon 3 is longer .*the longest has 2 decisions"):
        Source(Points((3, 2)), config)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"positives": {"min_gap": 6, "max_gap": 5}}, "min_gap 6 exceeds max_gap 5"),
        ({"method": "temporal", "positives": {"by": "time"}}, "temporal predicts what follows"),
        ({"method": "byol", "pairs": {"decoupled": True}}, "decoupled is for simclr, not for byol"),
        (
            {"method": "temporal", "pairs": {"hidden_dim": 64}},
            "hidden_dim is for simclr, .* not for temporal",
        ),
        ({"method": "moco", "pairs": {"moco": "v3", "queue": 8}}, "moco v3 has no queue"),
        ({"method": "moco", "pairs": {"moco": "v1", "hidden_dim": 8}}, "moco v1 has a linear projection"),
        ({"method": "clip", "obs": "state"}, "use obs pixels, not state"),
        ({"method": "clip", "positives": {"by": "both"}}, "leave positives out"),
        ({"positives": {"min_gap": 2}}, "by augmentation has no later .* use positives.by both"),
        ({"model": {"horizon": 4}}, "model.horizon is for temporal, .* not for simclr: leave it out"),
        ({"model": {"encoder": {"shift_padding": 15}}}, "leave it out, and use views.shift_padding"),
        ({"obs": "state", "recipe": "simclr", "views": find_recipe("simclr")}, "obs state does not look"),
        ({"obs": "state", "views": {"shift_padding": 4}}, "leave recipe and views out"),
        ({"obs": "state", "model": {"encoder": {"channels": 8}}}, "channels is for obs with pixels, not"),
        ({"model": {"encoder": {"proprio_noise": 0.5}}}, "proprio_noise is for obs with state, not for pix"),
        ({"model": {"encoder": {"proprio_dropout": 0.5}}}, "proprio_dropout is for obs with state"),
        (
            {"obs": "state", "positives": {"by": "time"}, "model": {"encoder": {"proprio_noise": 0.5}}},
            "as they are, without views and noise: leave recipe, views, model.encoder.proprio_noise and",
        ),
        ({"positives": {"by": "time"}, "views": find_recipe("none")}, "without views and noise"),
        ({"method": "clip", "views": {"flip": 0.5}}, "flip mirrors frames alone, .* vectors that clip sees"),
        *(
            ({"method": name, "views": {"flip": 0.5}}, f"flip mirrors frames alone, .* that {name} sees")
            for name in WINDOWED
        ),
        (
            {"method": "byol", "pairs": {"near_window": 1}},
            "near_window is for simclr, moco, clip, triplet, margin,",
        ),
        ({"model": {"latent_dim": 20}}, "latent_dim 20 is not a multiple of simnorm_group 8"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PretrainConfig(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"obs": "state", "model": {"encoder": {"proprio_noise": 0.5, "proprio_dropout": 0.1}}},
        {"obs": "pixels+state", "views": find_recipe("simclr"), "model": {"encoder": {"channels": 8}}},
        {"obs": "state", "method": "reconstruction", "model": {"encoder": {"channels": 8}}},
        {"method": "triplet", "pairs": {"key_tau": 0.1, "key_schedule": "constant", "hidden_dim": 8}},
        {"method": "supervised", "model": {"horizon": 1}},
        {"positives": {"by": "both", "min_gap": 2}},
        {"method": "byol", "views": {"flip": 0.5}},
        {"method": "simclr", "pairs": {"near_window": 0}},
        {"method": "moco", "pairs": {"near_window": 3, "moco": "v3"}},
        {"method": "clip", "pairs": {"near_window": 0}},
    ],
)
def test_options_that_change_something_are_let_pass(options: dict[str, object]) -> None:
    PretrainConfig(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("padding", [0, 15])
def test_the_encoders_own_shift_is_none_of_the_views(padding: int) -> None:
    """So that option is refused above."""
    images = torch.randint(0, 256, (4, 9, 16, 16), dtype=torch.uint8)
    views = [
        KeyedViews(find_recipe("shift"), EncoderOptions(shift_padding=each), seed=1, update=2)
        for each in (3, padding)
    ]
    seen = [each.images(images, torch.arange(4), 0) for each in views]
    assert torch.equal(*seen) and not torch.equal(seen[0], images)
