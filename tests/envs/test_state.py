from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from envs.registry import make_env
from envs.state import StateVariable, unnamed_variables


def variables_of(task: str) -> tuple[dict[str, StateVariable], Any]:
    env: Any = make_env(task, size=0).unwrapped
    found: tuple[StateVariable, ...] = env.state_variables
    assert [each.index for each in sorted(found, key=lambda each: each.index)] == list(
        range(env.env_spec.physics_dim)
    ), "every entry has one meaning"
    return {each.name: each for each in found}, env


@pytest.mark.parametrize("task", ["dmc/cartpole-swingup", "dmc/quadruped-walk", "gym/Hopper-v5"])
def test_entries_are_those_of_the_simulation(task: str) -> None:
    """Positions and velocities are found where the simulation's own are, by changing each of them."""
    variables, env = variables_of(task)
    physics = env._physics
    assert len(variables) == env.env_spec.physics_dim, "names differ"
    for kind, values in (
        ("position", physics.data.qpos),
        ("velocity", physics.data.qvel),
        ("activation", physics.data.act),
    ):
        own = sorted(each.index for each in variables.values() if each.kind == kind)
        assert len(own) == len(values)
        for place, index in enumerate(own):
            before = physics.get_state().copy()
            values[place] += 0.5
            assert np.flatnonzero(physics.get_state() != before).tolist() == [index]
    env.close()


def test_cartpole_in_its_units() -> None:
    variables, env = variables_of("dmc/cartpole-swingup")
    env.close()
    assert variables["slider"] == StateVariable("slider", 0, "position", "m")
    assert variables["hinge_1"] == StateVariable("hinge_1", 1, "position", "rad", is_periodic=True)
    assert variables["slider.velocity"] == StateVariable("slider.velocity", 2, "velocity", "m/s")
    assert variables["hinge_1.velocity"] == StateVariable("hinge_1.velocity", 3, "velocity", "rad/s")


def test_a_hinge_with_limits_does_not_go_round() -> None:
    variables, env = variables_of("dmc/reacher-easy")
    env.close()
    assert variables["shoulder"].is_periodic
    assert not variables["wrist"].is_periodic


def test_a_free_body_has_a_place_and_an_attitude() -> None:
    variables, env = variables_of("dmc/quadruped-walk")
    env.close()
    names = [each.name for each in sorted(variables.values(), key=lambda each: each.index)]
    assert names[:7] == [f"root.{part}" for part in ("x", "y", "z", "qw", "qx", "qy", "qz")]
    assert variables["root.wz"].unit == "rad/s"
    assert variables["root.qw"].unit == ""


def test_what_nobody_knows_has_numbers() -> None:
    assert unnamed_variables(2, "vector") == (
        StateVariable("vector_0", 0, "other"),
        StateVariable("vector_1", 1, "other"),
    )
