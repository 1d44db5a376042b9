from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.sweeps.ledger import LEDGER, Ledger, LedgerError, PlannedRun, RunRecord

RUN = PlannedRun("dmc/walker-walk", "byol", 3, 1000, 2, ("--task", "dmc/walker-walk"))


def begun(directory: Path) -> Ledger:
    ledger = Ledger.read(directory)
    ledger.open(engine="local", jobs=2)
    ledger.plan(RUN)
    ledger.start(RUN.key, "pid 7")
    return ledger


def test_key_is_the_run_directory() -> None:
    assert RUN.key == "dmc/walker-walk/byol/seed-3"


def test_nothing_has_happened_where_there_is_no_file(tmp_path: Path) -> None:
    assert Ledger.read(tmp_path).records == {}


def test_replay_gives_what_was_noted(tmp_path: Path) -> None:
    ledger = begun(tmp_path)
    ledger.end(RUN.key, "crashed", seconds=2.04, exit_code=-9, tail=["last", "words"])
    assert ledger.records[RUN.key] == RunRecord(
        RUN, "crashed", attempts=1, seconds=2.0, place="pid 7", exit_code=-9, tail=("last", "words")
    )
    ledger.start(RUN.key, "pid 8")
    assert ledger.records[RUN.key] == RunRecord(RUN, "started", attempts=2, seconds=2.0, place="pid 8")
    ledger.end(RUN.key, "finished", seconds=5.0)
    assert ledger.records[RUN.key] == RunRecord(RUN, "finished", attempts=2, seconds=7.0, place="pid 8")
    assert Ledger.read(tmp_path) == ledger


def test_every_event_says_when(tmp_path: Path) -> None:
    begun(tmp_path)
    events = [json.loads(line) for line in (tmp_path / LEDGER).read_text().splitlines()]
    assert [event["event"] for event in events] == ["opened", "planned", "started"]
    assert all(event["time"].endswith("+00:00") for event in events)


@pytest.mark.parametrize("cut", [1, 7, 40])
def test_a_torn_last_line_is_no_event_and_spoils_no_other(tmp_path: Path, cut: int) -> None:
    ledger = begun(tmp_path)
    before = ledger.records[RUN.key]
    ledger.end(RUN.key, "finished", seconds=5.0)
    path = tmp_path / LEDGER
    path.write_bytes(path.read_bytes()[:-cut])
    again = Ledger.read(tmp_path)
    assert again.records[RUN.key] == before
    again.open(engine="local", jobs=1)
    again.start(RUN.key, "pid 9")
    assert Ledger.read(tmp_path).records[RUN.key].attempts == 2


@pytest.mark.parametrize(
    "line", ["no JSON", "[]", '{"event": "vanished"}', '{"event": "started", "run": "unplanned"}', ""]
)
def test_damage_is_named(tmp_path: Path, line: str) -> None:
    begun(tmp_path)
    with (tmp_path / LEDGER).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(LedgerError, match=r"ledger\.jsonl, line 4 is no event .* remove it"):
        Ledger.read(tmp_path)


def test_a_run_that_is_planned_again_keeps_its_past(tmp_path: Path) -> None:
    ledger = begun(tmp_path)
    ledger.end(RUN.key, "finished", seconds=5.0)
    longer = PlannedRun("dmc/walker-walk", "byol", 3, 2000, 2, RUN.arguments)
    ledger.plan(longer)
    assert ledger.records[RUN.key] == RunRecord(longer, "planned", attempts=1, seconds=5.0, place="pid 7")
    assert Ledger.read(tmp_path) == ledger
