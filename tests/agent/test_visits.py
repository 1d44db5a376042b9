"""Coverage of physics states, against counts with plain loops over hand-made states."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.evaluation.visits.state_axes import MOST_UNNAMED, StateAxis, axes_of, described
from agent.evaluation.visits.state_coverage import (
    CELLS,
    StateCoverage,
    VariableError,
    Visits,
    as_json,
    growth_csv,
    stored_coverage,
    survey,
)
from envs.episodes import EpisodeError, EpisodeStore
from envs.state import StateVariable
from tests.physics import make_episode

ANGLE = StateAxis("angle", 0, "rad", -math.pi, math.pi, is_periodic=True)
SLIDER = StateAxis("slider", 2, "m", -2.0, 2.0)
UNKNOWN = StateAxis("state_1", 1, is_squashed=True)
AXES = (ANGLE, SLIDER, UNKNOWN)


def cell_by_hand(axis: StateAxis, value: float, count: int) -> int:
    """The cell of a value, found by walking along the edges."""
    low, high = axis.low, axis.high
    if axis.is_periodic:
        while value < -math.pi:
            value += 2 * math.pi
        while value >= math.pi:
            value -= 2 * math.pi
    if axis.is_squashed:
        value = value / (1 + abs(value))
    cell = 0
    while cell < count - 1 and value >= low + (cell + 1) * (high - low) / count:
        cell += 1
    return cell


def coverage_by_hand(states: np.ndarray, axes: tuple[StateAxis, ...], count: int) -> tuple[int, float]:
    """Visited cells over all pairs, and mean entropy, from dictionaries."""
    cells, entropies = 0, []
    for one, other in combinations(axes, 2):
        found = Counter(
            (cell_by_hand(one, row[one.index], count), cell_by_hand(other, row[other.index], count))
            for row in states.tolist()
        )
        cells += len(found)
        total = sum(found.values())
        entropies.append(sum(n / total * math.log(total / n) for n in found.values()))
    return cells, sum(entropies) / len(entropies)


def test_counts_are_those_of_plain_loops() -> None:
    states = np.random.default_rng(0).normal(scale=[4.0, 3.0, 1.5], size=(160, 3))
    visits = Visits(AXES, 9)
    for part in np.split(states, [1, 70, 71]):
        visits.add(part)
    cells, entropy = coverage_by_hand(states, AXES, 9)
    assert (visits.cells, visits.visits, visits.possible_cells) == (cells, 160, 3 * 81)
    assert 60 < cells < 3 * 81, "neither nothing nor everything"
    assert visits.entropy == pytest.approx(entropy, rel=1e-12)
    assert visits.pair_entropies().mean() == pytest.approx(entropy, rel=1e-12)
    assert {visits.counts(pair).sum() for pair in range(3)} == {160}
    row = states[17]
    cell = cell_by_hand(ANGLE, row[0], 9), cell_by_hand(SLIDER, row[2], 9)
    assert visits.counts(0)[cell] == sum(
        (cell_by_hand(ANGLE, a, 9), cell_by_hand(SLIDER, s, 9)) == cell for a, _, s in states.tolist()
    )


@given(st.floats(-1e6, 1e6), st.integers(1, 50))
def test_every_value_has_a_cell(value: float, count: int) -> None:
    for axis in AXES:
        (cell,) = axis.cells(np.array([value]), count)
        assert 0 <= cell < count
        if abs(value) < 100 and abs(axis.places(np.array([value]))[0] * count % 1 - 0.5) < 0.499:
            assert cell == cell_by_hand(axis, value, count)


@given(st.integers(-5, 5), st.floats(-3.1, 3.1))
def test_an_angle_is_the_same_after_a_turn(turns: int, value: float) -> None:
    places = ANGLE.places(np.array([value, value + 2 * math.pi * turns]))
    assert places[0] == pytest.approx(places[1], abs=1e-12)


def test_what_lies_beyond_a_range_counts_for_its_border() -> None:
    assert SLIDER.cells(np.array([-9.0, -2.0, -1.01, 0.0, 2.0, 9.0]), 4).tolist() == [0, 0, 0, 2, 3, 3]


def test_entropy_in_closed_form() -> None:
    """Four equal cells of one pair: log 4; a single cell: nothing, and not less."""
    visits = Visits((ANGLE, SLIDER), 4)
    assert (visits.entropy, visits.cells) == (0.0, 0)
    visits.add(np.array([[0.1, 0, 0.1]] * 3))
    assert (visits.entropy, visits.cells) == (0.0, 1)
    visits = Visits((ANGLE, SLIDER), 4)
    visits.add(np.array([[a, 0, s] for a in (0.1, -0.1) for s in (0.1, -0.1)] * 5))
    assert visits.entropy == pytest.approx(math.log(4))


def test_a_single_variable_is_counted_by_itself() -> None:
    visits = Visits((SLIDER,), 4)
    visits.add(np.array([[0, 0, -1.5], [0, 0, 0.5], [0, 0, 0.6], [0, 0, 1.5]]))
    assert (visits.cells, visits.possible_cells) == (3, 4)
    assert visits.entropy == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(4))
    with pytest.raises(ValueError, match="a variable at least"):
        Visits(())


def test_states_that_are_not_finite_are_left_out() -> None:
    visits = Visits((ANGLE, SLIDER), 4)
    visits.add(np.array([[np.nan, 0, 0], [0, 0, np.inf], [0, np.nan, 1.0]]))
    assert visits.visits == 1, "the entry that is no number there is none of the variables"


def test_coverage_grows_episode_by_episode() -> None:
    rng = np.random.default_rng(1)
    lengths = (5, 30, 2)
    episodes = [make_episode(rng.normal(scale=3, size=(length, 4)), frames=length) for length in lengths]
    coverage, states = StateCoverage(), np.empty((0, 4))
    for number, episode in enumerate(episodes, start=1):
        stage = coverage.add(episode)
        states = np.concatenate([states, episode.physics])
        cells, entropy = coverage_by_hand(states, axes_of("dmc/cartpole-swingup", 4), CELLS)
        assert stage is not None
        assert (stage.episodes, stage.frames, stage.cells) == (number, sum(lengths[:number]), cells)
        assert stage.entropy == pytest.approx(entropy)
    assert str(coverage.stages[0]).startswith("5 frames, ")


def test_order_makes_no_difference_to_the_end() -> None:
    rng = np.random.default_rng(2)
    episodes = [make_episode(rng.normal(size=(20, 4))) for _ in range(4)]
    ends = []
    for order in (episodes, episodes[::-1]):
        coverage = StateCoverage()
        ends.append([coverage.add(episode) for episode in order][-1])
    assert ends[0] == ends[1]


def test_nothing_is_said_of_a_task_without_physics() -> None:
    coverage = StateCoverage()
    assert coverage.add(make_episode(np.zeros((5, 0)))) is None
    assert (coverage.stages, coverage.axes) == ([], ())


def test_a_task_that_nobody_described_has_its_entries() -> None:
    """Another length of the state than the table says is another body, whatever it is called."""
    assert [axis.name for axis in axes_of("gym/Mine-v0", 3)] == ["state_0", "state_1", "state_2"]
    assert len(axes_of("dmc/dog-walk", 197)) == MOST_UNNAMED
    assert axes_of("dmc/cartpole-two_poles", 6)[0].is_squashed
    assert axes_of("dmc/cartpole-swingup_sparse", 4)[0].name == "hinge_1"
    assert axes_of("dmc/cartpole-swingup", 0) == ()


# Of each task or domain of the table, a task to build; those with a version are tasks themselves.
TASKS = {
    name: name if "-" in name else f"{name}-{task}"
    for name, task in {
        "dmc/acrobot": "swingup",
        "dmc/ball_in_cup": "catch",
        "dmc/cartpole": "swingup",
        "dmc/cheetah": "run",
        "dmc/finger": "spin",
        "dmc/fish": "swim",
        "dmc/hopper": "hop",
        "dmc/humanoid": "walk",
        "dmc/pendulum": "swingup",
        "dmc/point_mass": "easy",
        "dmc/quadruped": "walk",
        "dmc/reacher": "easy",
        "dmc/swimmer-swimmer6": "",
        "dmc/walker": "walk",
        "gym/Ant-v5": "",
        "gym/HalfCheetah-v5": "",
        "gym/Hopper-v5": "",
        "gym/Humanoid-v5": "",
        "gym/InvertedDoublePendulum-v5": "",
        "gym/InvertedPendulum-v5": "",
        "gym/Reacher-v5": "",
        "gym/Swimmer-v5": "",
        "gym/Walker2d-v5": "",
    }.items()
}


# Joints whose limits springs, or the end of the episode, keep out of reach.
UNREACHED = {("dmc/cheetah", "bfoot"), ("gym/InvertedPendulum-v5", "hinge")}


@pytest.mark.parametrize("name", sorted(described()))
def test_variables_are_where_the_simulation_has_them(name: str) -> None:
    """Indices, units and angles of the table are those of the bodies as they are built; joints fit in."""
    from envs import make_env

    entries, axes = described()[name]
    env = make_env(TASKS[name], size=0).unwrapped
    variables: dict[str, StateVariable] = {each.name: each for each in env.state_variables}  # type: ignore[attr-defined]
    model = env._physics.model  # type: ignore[attr-defined]
    limits = {
        model.id2name(joint, "joint"): model.jnt_range[joint]
        for joint in range(model.njnt)
        if model.jnt_limited[joint]
    }
    assert len(variables) == entries
    assert TASKS[name] == name or axes_of(TASKS[name], entries) == axes
    for axis in axes:
        variable = variables[axis.name]
        assert (variable.index, variable.unit) == (axis.index, axis.unit)
        assert variable.is_periodic or not axis.is_periodic
        assert axis.low < axis.high
        if axis.name in limits and (name, axis.name) not in UNREACHED:
            low, high = limits[axis.name]
            spare = 0.1 * (high - low) + 0.1
            assert axis.low <= low + spare, axis.name
            assert axis.high >= high - spare, axis.name
    env.close()


@pytest.fixture
def store(tmp_path: Path) -> EpisodeStore:
    rng = np.random.default_rng(3)
    store = EpisodeStore(tmp_path / "episodes")
    for _ in range(4):
        store.commit(make_episode(rng.normal(scale=2, size=(25, 4))))
    return store


def test_a_store_is_surveyed(store: EpisodeStore) -> None:
    found = survey(store, "mine", ["slider", "hinge_1.velocity"])
    assert found is not None
    states = np.concatenate([store.read(i).physics for i in store.ids()])
    axes = axes_of("dmc/cartpole-swingup", 4)
    cells, entropy = coverage_by_hand(states, axes, CELLS)
    said = json.loads(json.dumps(as_json([found])))
    assert [each["name"] for each in said["variables"]] == [axis.name for axis in axes]
    (run,) = said["runs"]
    assert (run["source"], run["cells"], run["frames"], run["visits"]) == ("mine", cells, 4 * 24 * 8, 100)
    assert run["entropy"] == pytest.approx(entropy)
    pair = next(each for each in run["pairs"] if each["variables"] == ["slider", "slider.velocity"])
    expected = coverage_by_hand(states, (axes[1], axes[3]), CELLS)
    assert (pair["cells"], pair["entropy"]) == (expected[0], pytest.approx(expected[1]))
    rows = list(csv.DictReader(io.StringIO(growth_csv([found]))))
    assert [int(row["frames"]) for row in rows] == [192, 384, 576, 768]
    assert int(rows[-1]["cells"]) == cells
    assert float(rows[-1]["entropy"]) == pytest.approx(entropy)
    assert [axis.name for axis in found.map.axes] == ["slider", "hinge_1.velocity"]
    assert found.map.counts().sum() == 100


def test_variables_that_are_not_there_are_named(store: EpisodeStore) -> None:
    for names in (["slider", "elbow"], ["slider", "slider"]):
        with pytest.raises(VariableError, match=r"take two of hinge_1, slider, hinge_1\.velocity"):
            survey(store, "mine", names)


def test_a_damaged_episode_is_left_out_and_named(store: EpisodeStore) -> None:
    whole = survey(store, "whole")
    store.file(1).write_bytes(b"nonsense")
    left = survey(store, "left")
    assert whole is not None
    assert left is not None
    assert left.coverage.stages[-1].episodes == 3
    assert left.map.visits == 75 < whole.map.visits
    (problem,) = left.problems
    assert "episode-00000001.safetensors" in problem
    coverage, problems = stored_coverage(store)
    assert coverage.stages == left.coverage.stages
    assert len(problems) == 1
    for identifier in store.ids():
        store.file(identifier).write_bytes(b"")
    with pytest.raises(EpisodeError, match="cannot read"):
        survey(store, "nothing")


def test_a_store_without_physics_has_nothing_to_survey(tmp_path: Path) -> None:
    store = EpisodeStore(tmp_path / "blind")
    store.commit(replace(make_episode(np.zeros((5, 4))), physics=np.zeros((5, 0))))
    assert survey(store, "blind") is None
    assert stored_coverage(store)[0].stages == []
