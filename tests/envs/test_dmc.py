from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from dm_control.rl.control import flatten_observation
from gymnasium.utils.env_checker import check_env

from envs import make_env
from envs.registry import TASKS, default_action_repeat
from envs.vector import env_spec_of
from tests.envs.conformance import assert_same, check_result, run

pytestmark = pytest.mark.gl

SLOW_DOMAINS = ("dmc/dog-", "dmc/humanoid_CMU-", "dmc/quadruped-escape")


def check_vector(env: gym.Env, info: dict[str, Any]) -> None:
    """The vector is what dm_control itself makes of the observations of the moment."""
    control = env.get_wrapper_attr("_env")
    own = control.task.get_observation(control.physics)
    np.testing.assert_array_equal(
        info["proprio"], flatten_observation(own)["observations"].astype(np.float32)
    )


def check_spec(env: gym.Env, task: str, repeat: int) -> None:
    spec = env_spec_of(env)
    assert (spec.task, spec.frame_shape, spec.stack, spec.look) == (task, (3, 64, 64), 3, "fast")
    assert (spec.episode_frames, spec.action_repeat, spec.episode_steps) == (1000, repeat, 1000 // repeat)
    assert spec.can_terminate == task.startswith("dmc/lqr-")
    assert env.observation_space == gym.spaces.Box(0, 255, (9, 64, 64), np.uint8)
    assert env.action_space == gym.spaces.Box(-1, 1, (spec.action_dim,), np.float32)


@pytest.mark.parametrize("task", TASKS)
def test_conformance(task: str) -> None:
    """What every task promises; long repeats, because physics is cheap and pictures are not."""
    repeat = 20 if task.startswith(SLOW_DOMAINS) else 200
    env, fresh = (make_env(task, seed=seed, action_repeat=repeat) for seed in (0, 1))
    check_spec(env, task, repeat)
    actions = [env.action_space.sample() for _ in range(1000 // repeat)]
    past = run(env, 1, actions if repeat == 200 else actions[:5])
    for step, result in enumerate(past):
        check_result(result, env_spec_of(env))
        assert result[2:4] == (False, step == 1000 // repeat), "only the time limit ends these episodes"
        assert result[4]["frames"] == (repeat if step else 0)

    # Whatever came before, the seed determines the episode.
    episode = run(env, 2, actions[:1])
    assert_same(episode, run(fresh, 2, actions[:1]))
    check_vector(env, episode[-1][4])
    other = run(fresh, 3, [])
    check_vector(fresh, other[0][4])
    assert not np.array_equal(episode[0][4]["physics"], other[0][4]["physics"])
    env.close()
    fresh.close()


@pytest.mark.slow
@pytest.mark.parametrize("task", [task for task in TASKS if task.startswith(SLOW_DOMAINS)])
def test_slow_domains_have_the_same_time_limit(task: str) -> None:
    env = make_env(task, action_repeat=1000)
    env.reset(seed=0)
    *_, terminated, truncated, info = env.step(env.action_space.sample())
    assert (terminated, truncated, info["frames"]) == (False, True, 1000)


@pytest.mark.parametrize("task", ["dmc/cartpole-swingup", "dmc/lqr-lqr_6_2"])
def test_gymnasiums_own_checks_pass(task: str, recwarn: pytest.WarningsRecorder) -> None:
    check_env(make_env(task), skip_render_check=True)
    complaints = [str(warning.message) for warning in recwarn if "WARN" in str(warning.message)]
    assert [text for text in complaints if "spec" not in text] == []  # it has no Gymnasium `spec`


def test_the_seed_of_the_environment_stands_in_for_those_of_resets() -> None:
    first, second, third = (make_env("reacher-easy", seed=seed) for seed in (4, 4, 5))
    starts = []
    for env in (first, second, third):
        starts.append([env.reset()[1]["physics"] for _ in range(2)] + [env.action_space.sample()])
    np.testing.assert_array_equal(np.concatenate(starts[0]), np.concatenate(starts[1]))
    assert not np.array_equal(starts[0][0], starts[0][1]), "each episode starts elsewhere"
    for mine, theirs in zip(starts[0], starts[2], strict=True):
        assert not np.array_equal(mine, theirs)


@pytest.mark.parametrize(
    ("task", "camera"), [("walker-walk", 0), ("quadruped-walk", 2), ("finger-turn_hard", 0)]
)
def test_it_is_the_suites_own_task_seen_by_the_suites_own_camera(task: str, camera: int) -> None:
    from dm_control import suite

    domain, name = task.split("-")
    reference = suite.load(domain, name)
    reference.task.random.seed(11)
    reference.reset()
    env = make_env(task, look="original", stack=1, action_repeat=3)
    obs, info = env.reset(seed=11)
    bounds = reference.action_spec()
    for fraction in (None, 0.0, 1.0, 0.25, 2.0, -0.5):  # of the range of each action
        if fraction is not None:
            inside = min(max(fraction, 0.0), 1.0)
            control = (1 - inside) * bounds.minimum + inside * bounds.maximum
            expected = sum(float(reference.step(control).reward) for _ in range(3))
            action = np.full(env.action_space.shape or (), 2 * fraction - 1, np.float32)
            obs, reward, *_, info = env.step(action)
            assert reward == pytest.approx(expected, rel=1e-9, abs=1e-12)
        np.testing.assert_allclose(info["physics"], reference.physics.get_state(), rtol=1e-6, atol=1e-9)
        entries = reference.task.get_observation(reference.physics).values()
        vector = np.concatenate([np.ravel(entry) for entry in entries])
        np.testing.assert_allclose(info["proprio"], vector, rtol=1e-5, atol=1e-6)
        picture = reference.physics.render(64, 64, camera_id=camera).transpose(2, 0, 1)
        assert np.abs(obs.astype(int) - picture).max() <= 1
    assert env_spec_of(env).action_repeat == 3


def test_a_stack_holds_the_oldest_frame_first_and_repeats_the_first_at_a_reset() -> None:
    env, newest_only = make_env("cheetah-run", stack=4), make_env("cheetah-run", stack=1)
    actions = [env.action_space.sample() for _ in range(5)]
    for seed in (1, 2):
        frames = [result[0] for result in run(newest_only, seed, actions)]
        assert len({frame.tobytes() for frame in frames}) == 6, "the picture moves"
        stacks = [result[0] for result in run(env, seed, actions)]
        for t, stack in enumerate(stacks):
            expected = [frames[max(0, t - age)] for age in (3, 2, 1, 0)]
            np.testing.assert_array_equal(stack, np.concatenate(expected))
        np.testing.assert_array_equal(env.get_wrapper_attr("frame")(), frames[-1])


def test_observations_share_no_memory() -> None:
    env = make_env("cartpole-swingup", stack=2)
    observations = [env.reset(seed=0)[0], *(env.step(np.zeros(1))[0] for _ in range(3)), env.reset()[0]]
    for index, obs in enumerate(observations):
        assert obs.flags.owndata and obs.flags.writeable
        assert not any(np.shares_memory(obs, other) for other in observations[:index])


@pytest.mark.parametrize("task", ["cartpole-swingup", "finger-spin", "pendulum-swingup"])
def test_a_decision_lasts_the_customary_frames_and_sums_their_rewards(task: str) -> None:
    repeat = default_action_repeat(task)
    env, frame_by_frame = make_env(task, stack=1), make_env(task, stack=1, action_repeat=1)
    actions = [env.action_space.sample() for _ in range(4)]
    held = [action for action in actions for _ in range(repeat)]
    each = run(frame_by_frame, 5, held)
    for t, result in enumerate(run(env, 5, actions)):
        obs, *_, info = each[t * repeat]
        np.testing.assert_array_equal(result[0], obs)
        np.testing.assert_array_equal(result[4]["physics"], info["physics"])
        if t:
            assert result[4]["frames"] == repeat
            assert result[1] == sum(step[1] for step in each[(t - 1) * repeat + 1 : t * repeat + 1])


def test_the_time_limit_truncates_a_decision_that_does_not_fit() -> None:
    env = make_env("cartpole-balance", action_repeat=300)
    assert env_spec_of(env).episode_steps == 4
    for _ in range(2):
        results = run(env, 0, [np.zeros(1)] * 4)
        assert [result[4]["frames"] for result in results] == [0, 300, 300, 300, 100]
        assert [result[2] for result in results] == [False] * 5
        assert [result[3] for result in results] == [False] * 4 + [True]
        assert results[4][1] < 101 < results[1][1], "the reward is that of the frames that were left"
        with pytest.raises(RuntimeError, match=r"call reset\(\) first"):
            env.step(np.zeros(1))


def test_no_episode_runs_before_a_reset() -> None:
    with pytest.raises(RuntimeError, match=r"call reset\(\) first"):
        make_env("pendulum-swingup").step(np.zeros(1))


def test_closing_twice_does_no_harm() -> None:
    env = make_env("pendulum-swingup")
    env.reset(seed=0)
    env.close()
    env.close()


@pytest.mark.parametrize("task", ["lqr-lqr_2_1", "lqr-lqr_6_2"])
class TestLqr:
    """Its actions have no bounds, its episodes no time limit, and its springs are drawn when it is loaded."""

    def test_actions_are_held_to_one(self, task: str) -> None:
        from dm_control import suite

        domain, name = task.split("-")
        reference = suite.load(domain, name, task_kwargs={"random": 0})  # the springs that this project fixes
        env = make_env(task)
        for action in (1.0, 1e6, -1e6, 0.5):
            reference.task.random.seed(3)
            reference.reset()
            control = np.full(env.action_space.shape or (), np.clip(action, -1, 1))
            for _ in range(12):
                reference.step(control)
            results = run(env, 3, [np.full_like(control, action)] * 3)
            np.testing.assert_allclose(results[-1][4]["physics"], reference.physics.get_state(), rtol=1e-9)

    def test_it_is_cut_at_a_thousand_frames(self, task: str) -> None:
        env = make_env(task, action_repeat=400)
        results = run(env, 0, [np.ones(env.action_space.shape or ())] * 3)
        assert [result[4]["frames"] for result in results] == [0, 400, 400, 200]
        assert [result[2:4] for result in results[-2:]] == [(False, False), (False, True)]

    def test_it_terminates_at_rest(self, task: str) -> None:
        env = make_env(task)
        action = np.zeros(env.action_space.shape or ())
        env.reset(seed=0)
        physics = env.get_wrapper_attr("_physics")
        with physics.reset_context():
            physics.set_state(np.zeros(env_spec_of(env).physics_dim))
        _, _, terminated, truncated, info = env.step(action)
        assert (terminated, truncated, info["frames"]) == (True, False, 1)
        with pytest.raises(RuntimeError, match=r"call reset\(\) first"):
            env.step(action)
        env.reset(seed=0)
        assert env.step(action)[2:4] == (False, False)

    def test_every_seed_meets_the_same_springs(self, task: str) -> None:
        models = [make_env(task, seed=seed).get_wrapper_attr("_physics").model for seed in (0, 1)]
        np.testing.assert_array_equal(models[0].jnt_stiffness, models[1].jnt_stiffness)
        assert models[0].jnt_stiffness.min() >= 15


@pytest.mark.gl
@pytest.mark.parametrize("action", [np.zeros(1), np.zeros(3), 0.5])
def test_an_action_of_another_shape_is_refused(action: np.ndarray | float) -> None:
    env = make_env("dmc/reacher-easy")
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"expected \(2,\)"):
        env.step(action)
    env.close()
