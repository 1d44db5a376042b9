from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from configs.schema import Config
from world_model.encoder import CPU_CHUNK, STRIDES, PixelEncoder
from world_model.layers import EnsembleMLP, SimNorm, mlp


@pytest.fixture
def encoder(tiny_config: Callable[..., Config]) -> PixelEncoder:
    torch.manual_seed(0)
    encoder = PixelEncoder((9, 32, 32), tiny_config().world_model).double()
    with torch.no_grad():
        for parameter in encoder.parameters():  # biases start at zero
            parameter.add_(0.1 * torch.randn_like(parameter))
    return encoder


def images(rows: int) -> Tensor:
    return torch.randint(
        0, 256, (rows, 9, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


def test_equals_plain_convolutions_of_scaled_pixels(encoder: PixelEncoder) -> None:
    obs = images(3)
    x = obs.double() / 255 - 0.5
    *convolutions, (linear, linear_bias), (gain, offset) = zip(*2 * [iter(encoder.parameters())], strict=True)
    for (weight, bias), stride in zip(convolutions, STRIDES, strict=True):
        x = F.conv2d(x, weight, bias, stride=stride).clamp(min=0)
    x = x.flatten(1) @ linear.T + linear_bias
    x = (x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt() * gain + offset
    exponents = x.detach().numpy()
    for row, found in zip(exponents, encoder(obs).detach().numpy(), strict=True):
        for start in range(0, 16, 4):
            group = np.exp(row[start : start + 4])
            np.testing.assert_allclose(found[start : start + 4], group / group.sum(), rtol=1e-9)


def test_a_cropping_encoder_sees_the_centre(tiny_config: Callable[..., Config]) -> None:
    torch.manual_seed(0)
    options = tiny_config(size=40, world_model={"encoder": {"crop": 32}}).world_model
    cropping = PixelEncoder((9, 40, 40), options)
    torch.manual_seed(0)
    plain = PixelEncoder((9, 32, 32), tiny_config().world_model)
    large = torch.randint(0, 256, (3, 9, 40, 40), dtype=torch.uint8)
    torch.testing.assert_close(cropping(large), plain(large[:, :, 4:36, 4:36]))


def test_chunks_do_not_show(encoder: PixelEncoder) -> None:
    obs = images(2 * CPU_CHUNK + 5)
    encoder.float()
    one_by_one = torch.cat([encoder(row[None]) for row in obs])
    torch.testing.assert_close(encoder(obs), one_by_one)


def test_reduced_precision_is_used_and_close(tiny_config: Callable[..., Config]) -> None:
    found = []
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(0)
        options = tiny_config(world_model={"encoder": {"precision": precision}}).world_model
        found.append(PixelEncoder((9, 32, 32), options)(images(3)))
    exact, reduced = found
    assert reduced.dtype == torch.float32
    assert not torch.equal(exact, reduced)
    torch.testing.assert_close(reduced, exact, rtol=0.05, atol=0.01)


def test_simnorm_normalises_groups_of_neighbours() -> None:
    x = torch.randn(2, 3, 12, generator=torch.Generator().manual_seed(0))
    z = SimNorm(4)(x)
    torch.testing.assert_close(z.unflatten(-1, (3, 4)).sum(-1), torch.ones(2, 3, 3))
    torch.testing.assert_close(SimNorm(4)(x[..., 4:8]), z[..., 4:8])


def test_mlp_starts_at_zero_where_asked() -> None:
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    assert mlp(6, 8, 3, zero_output=True)(x).abs().max() == 0
    assert mlp(6, 8, 3)(x).abs().min() > 0


def test_ensemble_is_its_members_side_by_side() -> None:
    torch.manual_seed(0)
    ensemble = EnsembleMLP(3, 5, 8, 2)
    with torch.no_grad():
        for parameter in ensemble.parameters():
            parameter.add_(torch.randn_like(parameter))
    x = torch.randn(4, 6, 5)
    for i, found in enumerate(ensemble(x)):
        member = mlp(5, 8, 2)
        with torch.no_grad():
            for ours, theirs in zip(member.parameters(), ensemble.parameters(), strict=True):
                own = theirs[i].squeeze(0)  # biases and gains are (N, 1, D), weights (N, in, out)
                ours.copy_(own.T if ours.ndim == 2 else own)
        torch.testing.assert_close(found, member(x), rtol=1e-5, atol=1e-5)
