from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from world_model.views.randomness import UNIFORMS, draw_uniforms, keyed_uniforms, philox

ANY_SAMPLE = st.integers(-(2**63), 2**63 - 1)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ("00000000 " * 4, "00000000 " * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff " * 4, "ffffffff " * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            "243f6a88 85a308d3 13198a2e 03707344",
            "a4093822 299f31d0",
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_gives_the_published_answers(counter: str, key: str, expected: str) -> None:
    """Known answers of the authors' own library, Random123."""
    counters, keys, answers = ([int(word, 16) for word in text.split()] for text in (counter, key, expected))
    assert philox(torch.tensor(counters), (keys[0], keys[1])).tolist() == answers


@settings(deadline=None, max_examples=30)
@given(samples=st.lists(ANY_SAMPLE, min_size=1, max_size=8), data=st.data())
def test_keyed_numbers_depend_on_the_sample_alone(samples: list[int], data: st.DataObject) -> None:
    seed, update = data.draw(st.integers(0, 2**64 - 1)), data.draw(st.integers(0, 2**32 - 1))
    view = data.draw(st.integers(0, 2**16 - 1))

    def numbers(of: list[int]) -> torch.Tensor:
        return keyed_uniforms(torch.tensor(of), seed=seed, update=update, view=view)

    everyone = numbers(samples)
    assert everyone.shape == (len(samples), UNIFORMS)
    assert 0 <= float(everyone.min()) <= float(everyone.max()) < 1
    order = data.draw(st.permutations(range(len(samples))))
    assert torch.equal(numbers([samples[i] for i in order]), everyone[list(order)])
    for row, sample in zip(everyone, samples, strict=True):
        assert torch.equal(numbers([sample])[0], row)


def test_every_argument_of_keyed_numbers_matters() -> None:
    far_apart = torch.tensor([0, 1, 2**32, -1, 2**62, -(2**63)])
    drawn = [
        keyed_uniforms(far_apart, seed=seed, update=update, view=view)
        for seed in (0, 1, 2**32, 2**64 - 1)
        for update in (0, 1, 2**32 - 1)
        for view in (0, 1)
    ]
    every = torch.cat(drawn)
    assert len(every.unique(dim=0)) == len(every), "no two rows are the same"
    assert every.unique().numel() > 0.999 * every.numel(), "nor do they share numbers"


def test_more_numbers_begin_with_the_same_ones_and_repeat_none() -> None:
    few, many = (
        keyed_uniforms(torch.arange(5), seed=3, update=7, view=1, count=count) for count in (5, 4001)
    )
    assert few.shape == (5, 5) and many.shape == (5, 4001)
    assert torch.equal(few, many[:, :5])
    assert many.unique().numel() == many.numel()


@pytest.mark.parametrize("is_keyed", [True, False])
def test_numbers_are_uniform_and_unrelated(is_keyed: bool) -> None:
    count = 4000
    if is_keyed:
        u = keyed_uniforms(torch.arange(count), seed=3, update=7, view=1)
    else:
        u = draw_uniforms(count, torch.Generator().manual_seed(3))
    assert u.dtype == torch.float64
    found = np.sort(u.numpy(), axis=0)
    distance = np.abs(found - (np.arange(count) + 0.5)[:, None] / count).max()
    assert distance < 2.2 / count**0.5, "Kolmogorov and Smirnov's, of every column"
    related = np.corrcoef(u.numpy().T) - np.eye(UNIFORMS)
    assert np.abs(related).max() < 5 / count**0.5
    assert abs(np.corrcoef(u[:-1].flatten(), u[1:].flatten())[0, 1]) < 5 / (count * UNIFORMS) ** 0.5


def test_numbers_come_from_the_generator_alone() -> None:
    first = draw_uniforms(5, torch.Generator().manual_seed(1))
    state = torch.get_rng_state()
    torch.rand(3)
    assert torch.equal(first, draw_uniforms(5, torch.Generator().manual_seed(1)))
    assert not torch.equal(first, draw_uniforms(5, torch.Generator().manual_seed(2)))
    torch.set_rng_state(state)
    draw_uniforms(5, torch.Generator().manual_seed(1))
    keyed_uniforms(torch.arange(5), seed=0, update=0, view=0)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": -1}, r"seed: expected a number in \[0, 2\^64\), found -1"),
        ({"update": 2**32}, r"update: expected a number in \[0, 2\^32\), found 4294967296"),
        ({"view": 2**16}, r"view: .* found 65536"),
        ({"count": 0}, "count: expected 1 to 262144 numbers a row, found 0"),
        ({"count": 2**18 + 1}, "count: .* found 262145"),
    ],
)
def test_keys_out_of_range_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        keyed_uniforms(torch.arange(2), **({"seed": 0, "update": 0, "view": 0} | change))


def test_samples_are_whole_numbers() -> None:
    with pytest.raises(ValueError, match=r"sample: expected int64 \(B,\), found torch.float32 \(2,\)"):
        keyed_uniforms(torch.zeros(2), seed=0, update=0, view=0)
