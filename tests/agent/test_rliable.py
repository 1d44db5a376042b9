"""Point estimates are those of rliable (benchmarks/rliable_reference.py made the file)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.evaluation.statistics import (
    iqm,
    mean,
    median,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
)

REFERENCE = json.loads((Path(__file__).parent / "data" / "rliable.json").read_text(encoding="utf-8"))


@pytest.fixture(params=REFERENCE["cases"])
def case(request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = REFERENCE["cases"][request.param]
    return found


@pytest.mark.parametrize("statistic", [iqm, mean, median, optimality_gap])
def test_aggregates(case: dict[str, Any], statistic: Callable[[Any], float]) -> None:
    expected = case["rliable"][statistic.__name__]
    assert statistic(case["x"]) == pytest.approx(expected, rel=1e-12, abs=1e-14)


def test_profile(case: dict[str, Any]) -> None:
    found = performance_profile(case["x"], REFERENCE["thresholds"])
    np.testing.assert_allclose(found, case["rliable"]["performance_profile"], rtol=0, atol=1e-12)


def test_probability_of_improvement(case: dict[str, Any]) -> None:
    expected = case["rliable"]["probability_of_improvement"]
    assert probability_of_improvement(case["x"], case["y"]) == pytest.approx(expected, rel=0, abs=1e-12)


def test_file_is_of_the_version_that_its_script_names() -> None:
    script = (Path(__file__).parents[2] / "benchmarks" / "rliable_reference.py").read_text(encoding="utf-8")
    assert f"rliable=={REFERENCE['versions']['rliable']}" in script
