"""Rewards of recorded episodes in other tasks, against the suite itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from envs import make_env
from envs.counting import CountingEnv
from envs.recording import Episode, EpisodeBuilder
from envs.registry import GYM_TASKS, TASKS
from envs.relabelling import HIDDEN, RelabellingError, check_relabelling, relabel
from envs.spec import Observation, Transition
from envs.vector import env_spec_of

QUICK = (
    "dmc/acrobot-swingup",
    "dmc/ball_in_cup-catch",
    "dmc/cartpole-swingup",
    "dmc/cheetah-run",
    "dmc/finger-spin",
    "dmc/finger-turn_easy",
    "dmc/fish-swim",
    "dmc/hopper-stand",
    "dmc/lqr-lqr_2_1",
    "dmc/pendulum-swingup",
    "dmc/point_mass-easy",
    "dmc/point_mass-hard",
    "dmc/reacher-hard",
    "dmc/swimmer-swimmer6",
    "dmc/walker-run",
)
REPEAT = 4


def record(
    env: gym.Env, *, seed: int = 5, decisions: int = 12, draw: float = 1.0, nudge: float = 0.0
) -> Episode:
    """An episode that is cut after so many decisions, of actions up to a size.

    After each decision the body may be nudged, by a share of its state.
    """
    builder = EpisodeBuilder(env_spec_of(env), lane=0, versions={})
    rng = np.random.default_rng(seed)
    obs, info = env.reset(seed=seed)
    builder.start(Observation(obs, info["proprio"]), info["physics"], episode=3, seed=seed)
    for t in range(decisions):
        action = rng.uniform(-draw, draw, env.action_space.shape).astype(np.float32)
        obs, reward, terminated, truncated, info = env.step(action)
        if nudge:
            info = env.get_wrapper_attr("stand_at")((1 + nudge) * info["physics"]) | {
                "frames": info["frames"]
            }
        episode = builder.add(
            Transition(
                frame=obs[-3:],
                proprio=info["proprio"],
                action=action,
                reward=float(reward),
                terminated=terminated,
                truncated=truncated or t == decisions - 1,
                physics=info["physics"],
                frames=info["frames"],
            )
        )
        if episode is not None:
            return episode
    raise AssertionError("the last decision ends it")


def make(task: str, *, seed: int = 0, repeat: int = REPEAT) -> gym.Env:
    return make_env(task, seed=seed, size=0, action_repeat=repeat)


def model_of(env: gym.Env) -> dict[str, np.ndarray]:
    """Everything in a simulation's model but what is only seen."""
    model = env.get_wrapper_attr("_physics").model.ptr
    names = [name for name in dir(model) if not name.startswith(("_", "light_", "cam_", "tex_", "mat_"))]
    arrays = {name: getattr(model, name) for name in names if not name.endswith("_rgba")}
    return {name: np.array(value) for name, value in arrays.items() if isinstance(value, np.ndarray)}


def is_hidden(env: gym.Env) -> bool:
    """Whether two resets differ in more than the physics state."""
    env.reset(seed=1)
    first = model_of(env)
    env.reset(seed=2)
    second = model_of(env)
    return any(first[name].tobytes() != second[name].tobytes() for name in first)


@pytest.mark.gl
@pytest.mark.parametrize(
    "task",
    [pytest.param(task, marks=[] if task in QUICK else [pytest.mark.slow]) for task in TASKS],
)
def test_a_task_gives_its_own_rewards_bit_for_bit_or_is_refused(task: str) -> None:
    """From the states alone: the seed is not the one that the episode was recorded with."""
    env = make(task)
    assert is_hidden(env) == (task in HIDDEN)
    if task in HIDDEN:
        with pytest.raises(RelabellingError, match=f"{task} draws {HIDDEN[task]} at every reset"):
            check_relabelling(task)
        return
    check_relabelling(task)
    episode = record(env, decisions=6)
    found = relabel(replace(episode, info=replace(episode.info, seed=77)), env)
    for name in ("reward", "terminated", "truncated", "proprio", "physics", "action"):
        np.testing.assert_array_equal(getattr(found, name), getattr(episode, name), err_msg=name)
    assert found.info == replace(episode.info, seed=77)
    env.close()


@pytest.mark.gl
@pytest.mark.parametrize("task", ["walker-walk", "cheetah-run", "cartpole-swingup"])
def test_without_the_warm_start_rewards_stay_close(task: str) -> None:
    """Each state is set, as on a machine whose last digits differ."""
    episode = record(make(task), decisions=40)
    rounded = replace(episode, physics=episode.physics * (1 + 1e-13))
    found = relabel(rounded, make(task))
    np.testing.assert_allclose(found.reward, episode.reward, rtol=1e-6, atol=1e-9)


@pytest.mark.gl
@pytest.mark.parametrize("task", ["cheetah-run", "cartpole-swingup"])
def test_it_stays_with_the_states_that_were_recorded(task: str) -> None:
    """A body that something pushes a little leaves its own path far behind."""
    episode = record(make(task), decisions=60, nudge=5e-4)
    found = relabel(episode, make(task))
    np.testing.assert_array_equal(found.reward, episode.reward)
    np.testing.assert_array_equal(found.physics, episode.physics)


def rewards_of_the_suite(task: str, episode: Episode, start: bool) -> np.ndarray:
    """Rewards of an episode's actions in the suite's own task, from the episode's first state or seed."""
    from dm_control import suite

    env = suite.load(*task.split("-"))
    env.task.random.seed(episode.info.seed)
    env.reset()
    if start:
        with env.physics.reset_context():
            env.physics.set_state(episode.physics[0])
    spec = env.action_spec()
    rewards = []
    for action in episode.action.astype(np.float64):
        control = spec.minimum + (action + 1) / 2 * (spec.maximum - spec.minimum)
        rewards.append(sum(float(env.step(control).reward) for _ in range(episode.info.action_repeat)))
    assert np.abs(env.physics.get_state() - episode.physics[-1]).max() < 1e-6
    return np.array(rewards)


@pytest.mark.gl
@pytest.mark.parametrize(
    ("recorded", "wanted", "start"),
    [
        ("walker-stand", "walker-walk", False),
        ("walker-run", "walker-stand", False),
        pytest.param("humanoid-stand", "humanoid-run_pure_state", False, marks=pytest.mark.slow),
        pytest.param("quadruped-walk", "quadruped-run", False, marks=pytest.mark.slow),
        ("cartpole-balance", "cartpole-swingup_sparse", True),
        ("fish-swim", "fish-upright", False),
    ],
)
def test_another_task_gives_the_rewards_of_the_suite(recorded: str, wanted: str, start: bool) -> None:
    episode = record(make(recorded), decisions=20, draw=0.3)
    env = make(wanted)
    found = relabel(episode, env)
    expected = rewards_of_the_suite(wanted, episode, start)
    np.testing.assert_allclose(found.reward, expected, rtol=1e-6, atol=1e-9)
    assert not np.allclose(found.reward, episode.reward, atol=1e-3), "the tasks differ"
    assert found.info.task == f"dmc/{wanted}"
    assert found.info.frames == 20 * REPEAT
    for name in ("frame", "action", "physics"):
        np.testing.assert_array_equal(getattr(found, name), getattr(episode, name))
    env.reset(seed=episode.info.seed)
    vector = env.get_wrapper_attr("stand_at")(episode.physics[7])["proprio"]
    np.testing.assert_allclose(found.proprio[7], vector, rtol=1e-4, atol=1e-4)
    assert found.proprio.shape == (21, env_spec_of(env).proprio_dim)


@pytest.mark.gl
def test_a_state_is_set_or_left_alone() -> None:
    env, same = make("cheetah-run"), make("cheetah-run")
    stand_at = same.get_wrapper_attr("stand_at")
    with pytest.raises(RuntimeError, match="call reset"):
        stand_at(np.zeros(18))
    _, info = env.reset(seed=1)
    same.reset(seed=1)
    for action in np.random.default_rng(0).uniform(-1, 1, (20, 6)):
        found = stand_at(info["physics"])
        np.testing.assert_array_equal(found["proprio"], info["proprio"])
        assert found["frames"] == 0
        info, other = env.step(action)[4], same.step(action)[4]
        np.testing.assert_array_equal(info["physics"], other["physics"])
    elsewhere = info["physics"] * 0.5
    np.testing.assert_array_equal(stand_at(elsewhere)["physics"], elsewhere)
    with pytest.raises(ValueError, match="have 18 entries"):
        stand_at(np.zeros(3))


@pytest.mark.gl
@pytest.mark.parametrize(
    ("recorded", "wanted", "message"),
    [
        ("cartpole-swingup", "cartpole-two_poles", "they have 4 entries of the physics state, not 6"),
        ("point_mass-hard", "point_mass-easy", "where the body moves otherwise: in episode 3, decision"),
        ("cartpole-swingup", "pendulum-swingup", "not 2"),
    ],
)
def test_what_does_not_fit_is_refused(recorded: str, wanted: str, message: str) -> None:
    with pytest.raises(RelabellingError, match=message):
        relabel(record(make(recorded)), make(wanted))


@pytest.mark.gl
def test_another_length_of_decisions_is_refused() -> None:
    episode = record(make("cartpole-swingup"))
    with pytest.raises(RelabellingError, match="4 frames a decision, not 2"):
        relabel(episode, make("cartpole-balance", repeat=2))
    longer = replace(episode, info=replace(episode.info, frames=1004))
    with pytest.raises(RelabellingError, match="1004 frames, more than 1000"):
        relabel(longer, make("cartpole-balance"))


@pytest.mark.parametrize("task", [GYM_TASKS[0], "counting"])
def test_other_suites_are_refused(task: str) -> None:
    with pytest.raises(RelabellingError, match=f"dm_control tasks only, not for {task}"):
        check_relabelling(task)


class Replayed(CountingEnv):
    """Counting that can be put somewhere, earns ten times as much, and terminates after so many decisions."""

    def __init__(self, ends_after: int) -> None:
        super().__init__(size=0)
        self.ends_after = ends_after

    def stand_at(self, physics: np.ndarray) -> dict[str, Any]:
        self._step, self._episode = map(int, physics)
        return self._info(0)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        obs, reward, _, truncated, info = super().step(action)
        return obs, 10 * reward, self._step == self.ends_after, truncated, info


@pytest.mark.parametrize("recorded", [{"length": 9}, {"length": 9, "terminate": True}])
@pytest.mark.parametrize(("ends_after", "steps"), [(5, 5), (9, 9), (99, 9)])
def test_an_episode_ends_where_the_task_ends(recorded: dict[str, Any], ends_after: int, steps: int) -> None:
    """One that would go on in the other task is cut off; one that terminates there is over."""
    episode = record(CountingEnv(size=32, **recorded), decisions=9)
    found = relabel(episode, Replayed(ends_after))
    assert found.steps == steps == found.info.frames
    np.testing.assert_array_equal(found.reward, 10.0 * np.arange(steps))
    terminated = ends_after == steps
    assert found.terminated.tolist() == [False] * (steps - 1) + [terminated]
    assert found.truncated.tolist() == [False] * (steps - 1) + [not terminated]
    np.testing.assert_array_equal(found.frame, episode.frame[: steps + 1])
    np.testing.assert_array_equal(found.proprio[:, 0], np.arange(steps + 1))
