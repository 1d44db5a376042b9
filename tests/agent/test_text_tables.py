from __future__ import annotations

import pytest

from agent.evaluation.text_tables import format_duration


@pytest.mark.parametrize(("seconds", "text"), [(59.2, "59s"), (725, "12m 05s"), (11_220, "3h 07m")])
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
