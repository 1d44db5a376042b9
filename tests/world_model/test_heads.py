from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from world_model.heads import TwoHot, symexp, symlog

BINS, LIMIT = 31, 4.0
# on a bin, between bins, at and beyond both ends
VALUES = np.array([0.0, 0.3, -0.3, 5.0, -17.25, math.expm1(4.0), -math.expm1(4.0), 1e4, -1e4])


def centers() -> np.ndarray:
    positions = [-LIMIT + 2 * LIMIT * i / (BINS - 1) for i in range(BINS)]
    return np.array([math.copysign(math.expm1(abs(x)), x) for x in positions])


def two_hot(value: float) -> np.ndarray:
    """Weights over the bins whose mean is the value, on the two bins around it (DreamerV3)."""
    middle, weights = centers(), np.zeros(BINS)
    value = min(max(value, middle[0]), middle[-1])
    for i in range(BINS - 1):
        if middle[i] <= value <= middle[i + 1]:
            share = (value - middle[i]) / (middle[i + 1] - middle[i])
            weights[i], weights[i + 1] = 1 - share, share
            return weights
    raise AssertionError(value)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def test_symlog_closed_forms() -> None:
    x = torch.tensor([0.0, math.e - 1, 1 - math.e, math.e**3 - 1], dtype=torch.float64)
    torch.testing.assert_close(symlog(x), torch.tensor([0.0, 1.0, -1.0, 3.0], dtype=torch.float64))


def test_symexp_inverts_symlog() -> None:
    x = torch.linspace(-500, 500, 101, dtype=torch.float64)
    torch.testing.assert_close(symexp(symlog(x)), x)
    assert torch.equal(symlog(-x), -symlog(x))


def test_loss_equals_cross_entropy_with_two_hot() -> None:
    logits = np.random.default_rng(0).normal(size=(len(VALUES), BINS))
    expected = [-(two_hot(value) * log_softmax(row)).sum() for value, row in zip(VALUES, logits, strict=True)]
    found = TwoHot(BINS, LIMIT).loss(torch.tensor(logits), torch.tensor(VALUES, dtype=torch.float32))
    np.testing.assert_allclose(found, expected, rtol=2e-5)


def test_gradient_is_prediction_minus_two_hot() -> None:
    logits = torch.randn(len(VALUES), BINS, generator=torch.Generator().manual_seed(0), requires_grad=True)
    TwoHot(BINS, LIMIT).loss(logits, torch.tensor(VALUES, dtype=torch.float32)).sum().backward()
    expected = logits.softmax(-1).detach().numpy() - np.array([two_hot(value) for value in VALUES])
    assert logits.grad is not None
    np.testing.assert_allclose(logits.grad, expected, atol=2e-5)


def test_minimum_of_the_loss_decodes_to_the_value() -> None:
    weights = np.array([two_hot(value) for value in VALUES])
    decoded = TwoHot(BINS, LIMIT).decode(torch.tensor(np.log(weights + 1e-30)))
    np.testing.assert_allclose(decoded, VALUES.clip(centers()[0], centers()[-1]), rtol=1e-5, atol=1e-5)


def test_uniform_logits_decode_to_zero() -> None:
    decoded = TwoHot(151, 7.5).decode(torch.zeros(4, 3, 151))
    assert decoded.shape == (4, 3)
    assert decoded.abs().max() < 1e-3


def test_decoding_keeps_its_precision_under_autocast() -> None:
    head, logits = TwoHot(151, 7.5), 5 * torch.randn(64, 151, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        reduced = head.decode(logits)
    torch.testing.assert_close(reduced, head.decode(logits))


def test_shapes_must_fit() -> None:
    with pytest.raises(ValueError, match=r"expected \(4, 3\), found \(4,\)"):
        TwoHot(BINS, LIMIT).loss(torch.zeros(4, 3, BINS), torch.zeros(4))
