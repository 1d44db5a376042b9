"""Which tasks look the same mirrored: the mirrored frame of a state is the frame of a mirrored state."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from envs.registry import GYM_TASKS, SIDELESS, TASKS, has_sides, make_env

SIGNS = {  # of the positions of a mirrored state
    "acrobot-swingup": (-1, -1),
    "ball_in_cup-catch": (-1, 1, -1, 1),
    "cartpole-swingup": (-1, -1),
    "pendulum-swingup": (-1,),
    "point_mass-easy": (-1, 1),
    "reacher-easy": (-1, -1),
}
OFFSETS = {"reacher-easy": np.array([np.pi, 0.0])}  # its arm turns from an axis that points to the right
SPREAD = {"ball_in_cup-catch": 0.1, "point_mass-easy": 0.2}
SIZE = {"point_mass-easy": 96}  # the mass would be a pixel or two


def test_names_that_have_no_sides_are_names_of_tasks() -> None:
    known = (*TASKS, *GYM_TASKS)
    assert all(any(task.startswith(name) for task in known) for name in SIDELESS)
    assert not has_sides("dmc/cartpole-three_poles")
    assert has_sides("dmc/walker-walk") and has_sides("gym/HalfCheetah-v5") and has_sides("dmc/finger-spin")
    assert not has_sides("images") and not has_sides("gym/Mine-v0"), "nobody knows"


@pytest.mark.gl
@pytest.mark.parametrize("name", SIGNS)
def test_mirrored_frames_show_mirrored_states(name: str) -> None:
    """What moves covers the same pixels; floors and walls stay where they are."""
    env: Any = make_env(f"dmc/{name}", size=SIZE.get(name, 48)).unwrapped
    assert not has_sides(f"dmc/{name}")
    env.reset(seed=0)
    if name == "reacher-easy":  # no part of the state
        env._physics.named.model.geom_pos["target", "x"] = 0.0
    rng = np.random.default_rng(0)
    sign = np.array(SIGNS[name])
    still = np.zeros_like(sign, dtype=float)
    states = rng.uniform(0.2, 1.0, (8, len(sign))) * rng.choice([-1, 1], (8, len(sign))) * SPREAD.get(name, 1)
    frames, mirrored = (
        np.stack([env.draw(np.concatenate((state, still))) for state in each]).astype(int)
        for each in (states, sign * states + OFFSETS.get(name, 0.0))
    )
    env.close()
    wall = np.median(np.concatenate((frames, mirrored)), axis=0)
    body, other = (np.abs(each - wall).max(axis=1) > 25 for each in (frames, mirrored))
    assert body.any(axis=(1, 2)).all()
    wrong, chance = ((each ^ other).sum() / (each | other).sum() for each in (body[..., ::-1], body))
    assert wrong < 0.4 < 0.6 < chance, (wrong, chance)
