from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from world_model.augment import _shift_by_copies, _shift_by_gather, draw_shifts, perturb, shift

PADDING = 3
ALL_SHIFTS = torch.cartesian_prod(*2 * [torch.arange(-PADDING, PADDING + 1)])


def crop_of_padded(image: np.ndarray, dy: int, dx: int) -> np.ndarray:
    """The augmentation as published: pad by replication, then crop."""
    height, width = image.shape[-2:]
    padded = np.pad(image, [(0, 0)] * (image.ndim - 2) + [(PADDING, PADDING)] * 2, mode="edge")
    return padded[..., PADDING + dy : PADDING + dy + height, PADDING + dx : PADDING + dx + width]


@pytest.mark.parametrize("implementation", [_shift_by_copies, _shift_by_gather, shift])
@pytest.mark.parametrize("contiguous", [True, False])
def test_equals_padding_and_cropping(
    implementation: Callable[[Tensor, Tensor], Tensor], contiguous: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (len(ALL_SHIFTS), 2, 3, 7, 5), dtype=torch.uint8, generator=generator)
    if not contiguous:
        images = images.transpose(-1, -2)
    before = images.clone()
    moved = implementation(images, ALL_SHIFTS)
    expected = [
        crop_of_padded(image, *offset)
        for image, offset in zip(images.numpy(), ALL_SHIFTS.tolist(), strict=True)
    ]
    np.testing.assert_array_equal(moved.numpy(), np.stack(expected))
    moved.fill_(7)
    assert torch.equal(images, before), "the result has memory of its own"


def test_draws_cover_the_range_and_nothing_else() -> None:
    drawn = draw_shifts(2000, PADDING, torch.Generator().manual_seed(0))
    assert {tuple(pair) for pair in drawn.tolist()} == {tuple(pair) for pair in ALL_SHIFTS.tolist()}


def test_draws_come_from_the_generator_alone() -> None:
    first = draw_shifts(8, PADDING, torch.Generator().manual_seed(5))
    torch.rand(3)
    assert torch.equal(first, draw_shifts(8, PADDING, torch.Generator().manual_seed(5)))
    assert not torch.equal(first, draw_shifts(8, PADDING, torch.Generator().manual_seed(6)))


def test_number_of_shifts_must_fit() -> None:
    with pytest.raises(ValueError, match=r"expected \(2, 2\), found \(3, 2\)"):
        shift(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(3, 2, dtype=torch.int64))


def test_noise_has_its_deviation_and_dropout_its_share() -> None:
    x = torch.full((200, 4, 50), 3.0)
    noisy = perturb(x, 0.5, 0.0, torch.Generator().manual_seed(0))
    assert float((noisy - x).std()) == pytest.approx(0.5, rel=0.02)
    assert float((noisy - x).mean()) == pytest.approx(0.0, abs=0.01)
    dropped = perturb(x, 0.0, 0.25, torch.Generator().manual_seed(0))
    assert set(dropped.unique().tolist()) == {0.0, 3.0}, "what is left keeps its size"
    assert float((dropped == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    assert torch.equal(perturb(x, 0.0, 0.0, torch.Generator()), x)
    assert torch.equal(x, torch.full_like(x, 3.0)), "the result has memory of its own"


def test_every_entry_of_every_vector_has_draws_of_its_own() -> None:
    first = perturb(torch.zeros(6, 5), 1.0, 0.0, torch.Generator().manual_seed(5))
    assert first.unique().numel() == first.numel()
    dropped = perturb(torch.ones(50, 5), 0.0, 0.5, torch.Generator().manual_seed(5))
    assert len({tuple(row) for row in dropped.tolist()}) > 10
    torch.rand(3)
    assert torch.equal(first, perturb(torch.zeros(6, 5), 1.0, 0.0, torch.Generator().manual_seed(5)))
