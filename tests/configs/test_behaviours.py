from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.behaviours import BEHAVIOURS, describe_behaviours, parse_behaviours

Weights = st.dictionaries(st.sampled_from(BEHAVIOURS), st.floats(0.01, 100), min_size=1)


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("random", {"random": 1}),
        (" policy = 3 ", {"policy": 3}),
        ("policy=.75, random=1", {"random": 1, "policy": 0.75}),
        ("random=1,policy=2,smooth-random=1", {"random": 1, "smooth-random": 1, "policy": 2}),
    ],
)
def test_shares_by_name(text: str, shares: dict[str, float]) -> None:
    found = parse_behaviours(text)
    assert found == shares
    assert list(found) == list(shares), "their order does not depend on that of the text"


@given(Weights)
def test_text_form_is_stable(weights: dict[str, float]) -> None:
    found = parse_behaviours(",".join(f"{name}={weight!r}" for name, weight in weights.items()))
    assert found == weights
    text = describe_behaviours(found)
    again = parse_behaviours(text)
    assert describe_behaviours(again) == text
    assert len(weights) == 1 or again == weights


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("randm", "unknown behaviour 'randm'; perhaps you meant random"),
        ("teacher=1", "unknown behaviour 'teacher'; there are random, smooth-random, policy"),
        ("random,policy=1", "random has no share: write for instance"),
        ("random=1,random=2", "random is given twice"),
        ("random=many", "share of random must be a positive number, not 'many'"),
        ("random=0", "not '0'"),
        ("random=-1,policy=2", "not '-1'"),
        ("random=nan", "not 'nan'"),
        ("random=inf", "not 'inf'"),
        ("", "unknown behaviour ''"),
    ],
)
def test_mistakes_are_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_behaviours(text)
