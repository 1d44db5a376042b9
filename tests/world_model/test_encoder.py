from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from configs.schema import Config, ObsName
from envs.spec import EnvSpec
from world_model.encoder import CPU_CHUNK, STRIDES, Encoder, perceived
from world_model.layers import EnsembleMLP, SimNorm, mlp

MakeEncoder = Callable[..., Encoder]

NOTHING = torch.zeros(0)
"""In place of what the encoder does not look at."""


@pytest.fixture
def make_encoder(env_spec: EnvSpec, tiny_config: Callable[..., Config]) -> MakeEncoder:
    """Makes encoders whose weights are those of the seed 0, but for biases, which start at zero."""

    def make(obs: ObsName, *, size: int = 32, **options: object) -> Encoder:
        config = tiny_config(size=size, world_model={"encoder": options})
        torch.manual_seed(0)
        encoder = Encoder(replace(env_spec, frame_shape=(3, size, size)), config.world_model, obs)
        with torch.no_grad():
            for parameter in encoder.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        return encoder

    return make


def images(rows: int, size: int = 32) -> Tensor:
    return torch.randint(
        0, 256, (rows, 9, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


def vectors(rows: int) -> Tensor:
    return torch.randn(rows, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def normalised(x: Tensor, gain: Tensor, offset: Tensor) -> Tensor:
    """LayerNorm."""
    return (x - x.mean(1, keepdim=True)) / (
        x.var(1, correction=0, keepdim=True) + 1e-5
    ).sqrt() * gain + offset


def assert_simnormed(found: Tensor, exponents: Tensor) -> None:
    """Softmax within groups of four."""
    for row, latents in zip(exponents.detach().numpy(), found.detach().numpy(), strict=True):
        for start in range(0, 16, 4):
            group = np.exp(row[start : start + 4])
            np.testing.assert_allclose(latents[start : start + 4], group / group.sum(), rtol=1e-9)


@pytest.mark.parametrize("obs", get_args(ObsName))
def test_equals_plain_layers(obs: ObsName, make_encoder: MakeEncoder) -> None:
    """Convolutions of scaled pixels, and two hidden layers for vectors, then one linear layer for both."""
    encoder = make_encoder(obs).double()
    pixels, vector = images(3), vectors(3)
    layers = zip(*2 * [iter(encoder.parameters())], strict=True)  # (weight, bias) of each
    features = []
    if "pixels" in obs:
        x = pixels.double() / 255 - 0.5
        for stride in STRIDES:
            weight, bias = next(layers)
            x = F.conv2d(x, weight, bias, stride=stride).clamp(min=0)
        features.append(x.flatten(1))
    if "state" in obs:
        x = vector
        for _ in range(2):
            x = normalised(F.linear(x, *next(layers)), *next(layers))
            x = x * x.sigmoid()
        features.append(F.linear(x, *next(layers)))
    x = F.linear(torch.cat(features, dim=1), *next(layers))
    assert_simnormed(encoder(pixels, vector), normalised(x, *next(layers)))
    assert next(layers, None) is None


def test_what_is_not_looked_at_makes_no_difference(make_encoder: MakeEncoder) -> None:
    state, pixels = make_encoder("state").double(), make_encoder("pixels").double()
    nothing_drawn = torch.zeros(3, 9, 0, 0, dtype=torch.uint8)
    torch.testing.assert_close(state(images(3), vectors(3)), state(nothing_drawn, vectors(3)))
    torch.testing.assert_close(pixels(images(3), vectors(3)), pixels(images(3), torch.zeros(3, 0)))


def test_vectors_are_perceived_by_the_logarithm_of_their_size() -> None:
    seen = perceived(torch.tensor([[0.0, 1.0, -1.0, 1e4, -1e4]]))
    expected = [0.0, np.log(2), -np.log(2), np.log(1 + 1e4), -np.log(1 + 1e4)]
    np.testing.assert_allclose(seen[0], expected, rtol=1e-6)


def test_a_cropping_encoder_sees_the_centre(make_encoder: MakeEncoder) -> None:
    cropping, plain = make_encoder("pixels", size=40, crop=32), make_encoder("pixels")
    large = images(3, 40)
    torch.testing.assert_close(cropping(large, NOTHING), plain(large[:, :, 4:36, 4:36], NOTHING))


def test_chunks_do_not_show(make_encoder: MakeEncoder) -> None:
    encoder, obs = make_encoder("pixels"), images(2 * CPU_CHUNK + 5)
    one_by_one = torch.cat([encoder(row[None], NOTHING) for row in obs])
    torch.testing.assert_close(encoder(obs, NOTHING), one_by_one)


@pytest.mark.parametrize("obs", get_args(ObsName))
def test_reduced_precision_is_used_and_close(obs: ObsName, make_encoder: MakeEncoder) -> None:
    exact, reduced = (
        make_encoder(obs, precision=precision)(images(3), vectors(3).float())
        for precision in ("float32", "bfloat16")
    )
    assert reduced.dtype == torch.float32
    assert not torch.equal(exact, reduced)
    torch.testing.assert_close(reduced, exact, rtol=0.05, atol=0.02)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_bytes_may_come_as_floating_point_numbers(precision: str, make_encoder: MakeEncoder) -> None:
    """Bit for bit: on the same scale, [0, 255], and not as shares of it."""
    encoder, obs = make_encoder("pixels", precision=precision), images(CPU_CHUNK + 3)
    for dtype in (torch.float32, torch.float64):
        assert torch.equal(encoder(obs.to(dtype), NOTHING), encoder(obs, NOTHING))


def test_pixels_may_be_fractions(make_encoder: MakeEncoder) -> None:
    encoder = make_encoder("pixels").double()
    obs = images(3).double() * 0.7 + 1 / 3
    x = obs / 255 - 0.5
    assert encoder.pixels is not None
    layers = zip(*2 * [iter(encoder.pixels.parameters())], strict=True)
    for stride, (weight, bias) in zip(STRIDES, layers, strict=True):
        x = F.conv2d(x, weight, bias, stride=stride).clamp(min=0)
    torch.testing.assert_close(encoder.pixels(obs), x.flatten(1), rtol=1e-10, atol=1e-10)


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
