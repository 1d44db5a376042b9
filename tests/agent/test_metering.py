from __future__ import annotations

import pytest

from agent.metering import Meter


def test_shares_and_laps(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    meter = Meter()
    for activity, seconds in (("acting", 1.0), ("update", 5.0), ("acting", 2.0)):
        with meter.measure(activity):
            now += seconds
    now += 10.0  # not measured
    assert meter.shares() == {"time/acting_share": 3 / 8, "time/update_share": 5 / 8}
    assert meter.lap() == 18.0
    now += 4.0
    assert meter.lap() == 4.0
