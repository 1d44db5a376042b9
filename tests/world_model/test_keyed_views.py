"""Views of pretraining depend on the row, not on the batch around it."""

from __future__ import annotations

import torch

from configs.views import find_recipe
from configs.world_model import EncoderOptions
from world_model.pretrain.views import KeyedViews

ROWS = torch.arange(4000)


def views(update: int = 3, seed: int = 1, noise: float = 0.1, dropout: float = 0.0) -> KeyedViews:
    encoder = EncoderOptions(proprio_noise=noise, proprio_dropout=dropout)
    return KeyedViews(find_recipe("simclr"), encoder, seed, update)


def test_noise_on_vectors_is_gaussian_and_independent() -> None:
    zeros = torch.zeros(4000, 11, dtype=torch.float64)
    noise = views(noise=2.0).vectors(zeros, ROWS, 0)
    assert abs(noise.mean()) < 0.05 and abs(noise.std() - 2) < 0.05
    kurtosis = ((noise / noise.std()) ** 4).mean()
    assert abs(kurtosis - 3) < 0.15
    other = views(noise=2.0).vectors(zeros, ROWS, 1)
    columns = torch.cat((noise, other), dim=1)
    apart = torch.corrcoef(columns.T) - torch.eye(22)
    assert apart.abs().max() < 0.08


def test_dropped_entries_are_zero_and_the_rest_stays() -> None:
    ones = torch.ones(4000, 5)
    seen = views(noise=0.0, dropout=0.3).vectors(ones, ROWS, 0)
    assert set(seen.unique().tolist()) == {0.0, 1.0}
    assert abs(seen.mean() - 0.7) < 0.02


def test_long_vectors_have_noise_of_their_own_in_every_entry() -> None:
    """A window of four states of 348 entries, as Humanoid's are, and one that is longer still."""
    for size in (348, 5000):
        noise = views(noise=1.0).vectors(torch.zeros(6, 4, size), torch.arange(6), 0)
        assert noise.unique().numel() > 0.999 * noise.numel()
        assert abs(noise.std() - 1) < 0.02


def test_a_row_has_its_view_wherever_it_stands() -> None:
    vectors, images = torch.randn(6, 3, 4), torch.randint(0, 256, (6, 6, 16, 16), dtype=torch.uint8)
    row = torch.tensor([5, 900, 2, 7, 30, 1])
    for view in (0, 1):
        whole = views().images(images, row, view), views().vectors(vectors, row, view)
        for chosen in ([3], [4, 0], [5, 1, 2]):
            part = (
                views().images(images[chosen], row[chosen], view),
                views().vectors(vectors[chosen], row[chosen], view),
            )
            assert torch.equal(part[0], whole[0][chosen]) and torch.equal(part[1], whole[1][chosen])


def test_update_seed_and_view_give_other_views() -> None:
    vectors, row = torch.zeros(3, 4), torch.arange(3)
    first = views().vectors(vectors, row, 0)
    for other in (views(update=4), views(seed=2)):
        assert (first != other.vectors(vectors, row, 0)).all()
    assert (first != views().vectors(vectors, row, 1)).all()
    assert torch.equal(first, views().vectors(vectors, row, 0))
