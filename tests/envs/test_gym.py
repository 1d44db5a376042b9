from __future__ import annotations

from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium.envs.mujoco.inverted_double_pendulum_v5 import DEFAULT_CAMERA_CONFIG
from gymnasium.utils.env_checker import check_env

from envs import make_env
from envs.registry import GYM_TASKS, TaskError, default_action_repeat
from envs.vector import env_spec_of, make_pool
from tests.envs.conformance import assert_same, check_result, run

pytestmark = pytest.mark.gl

FOREIGN = ("tests.envs.foreign",)
LIMITS = {"gym/Reacher-v5": 50, "gym/Pusher-v5": 100}  # frames; 1000 of all others
# Entry of the position, and a value of it that ends the episode.
FALLS = {
    "gym/Ant-v5": (2, 1.5),
    "gym/Hopper-v5": (2, 0.5),
    "gym/Humanoid-v5": (2, 3.0),
    "gym/InvertedDoublePendulum-v5": (1, 2.0),
    "gym/InvertedPendulum-v5": (1, 0.5),
    "gym/Walker2d-v5": (2, 1.5),
}
FOLLOWED = [task for task in GYM_TASKS if "Pendulum" not in task and task not in LIMITS]


def base(env: gym.Env) -> Any:
    """Gymnasium's own environment inside."""
    return env.get_wrapper_attr("_env").unwrapped


def move(env: gym.Env, entry: int, value: float) -> None:
    """Put one entry of the position elsewhere."""
    qpos, qvel = base(env).data.qpos.copy(), base(env).data.qvel.copy()
    qpos[entry] = value
    base(env).set_state(qpos, qvel)


def check_spec(env: gym.Env, task: str, repeat: int) -> None:
    spec = env_spec_of(env)
    assert (spec.task, spec.frame_shape, spec.stack, spec.look) == (task, (3, 64, 64), 3, "fast")
    assert (spec.episode_frames, spec.action_repeat) == (LIMITS.get(task, 1000), repeat)
    assert spec.can_terminate == (task in FALLS)
    assert env.observation_space == gym.spaces.Box(0, 255, (9, 64, 64), np.uint8)
    assert env.action_space == gym.spaces.Box(-1, 1, (spec.action_dim,), np.float32)
    assert spec.action_dim == base(env).model.nu
    assert spec.physics_dim == base(env).model.nq + base(env).model.nv
    assert (spec.proprio_dim,) == base(env).observation_space.shape


@pytest.mark.parametrize("task", GYM_TASKS)
def test_conformance(task: str) -> None:
    """What every task promises; long repeats, because physics is cheap and pictures are not."""
    env, fresh = (make_env(task, seed=seed, action_repeat=20) for seed in (0, 1))
    check_spec(env, task, 20)
    actions = [env.action_space.sample() for _ in range(4)]
    for result in (past := run(env, 1, actions)):
        check_result(result, env_spec_of(env))
    assert all(result[4]["frames"] == 20 for result in past[1:-1])

    # Whatever came before, the seed determines the episode.
    episode = run(env, 2, actions[:1])
    assert_same(episode, run(fresh, 2, actions[:1]))
    other = run(fresh, 3, [])
    assert not np.array_equal(episode[0][4]["physics"], other[0][4]["physics"])
    env.close()
    fresh.close()


@pytest.mark.parametrize("task", [task for task in GYM_TASKS if task not in FALLS])
def test_a_task_without_an_end_is_cut_at_its_time_limit(task: str) -> None:
    env, limit = make_env(task, action_repeat=1500), LIMITS.get(task, 1000)
    for _ in range(2):
        results = run(env, 0, [env.action_space.sample()])
        assert results[1][2:4] == (False, True) and results[1][4]["frames"] == limit
        with pytest.raises(RuntimeError, match=r"call reset\(\) first"):
            env.step(env.action_space.sample())


@pytest.mark.parametrize("task", FALLS)
def test_a_fall_terminates_at_once(task: str) -> None:
    """Also in the middle of a decision, whose other frames are left out."""
    env = make_env(task, action_repeat=4)
    still = np.zeros(env.action_space.shape or ())
    env.reset(seed=0)
    assert env.step(still)[2:4] == (False, False)
    move(env, *FALLS[task])
    _, _, terminated, truncated, info = env.step(still)
    assert (terminated, truncated, info["frames"]) == (True, False, 1)
    with pytest.raises(RuntimeError, match=r"call reset\(\) first"):
        env.step(still)
    env.reset(seed=0)
    assert env.step(still)[2:4] == (False, False)


def test_falling_at_the_time_limit_is_termination() -> None:
    env = make_env("gym/Hopper-v5", action_repeat=1)
    env.reset(seed=0)
    env.get_wrapper_attr("_env")._elapsed_steps = 999
    move(env, *FALLS["gym/Hopper-v5"])
    assert env.step(np.zeros(3))[2:4] == (True, False)


def test_gymnasiums_own_checks_pass(recwarn: pytest.WarningsRecorder) -> None:
    check_env(make_env("gym/Hopper-v5"), skip_render_check=True)
    complaints = [str(warning.message) for warning in recwarn if "WARN" in str(warning.message)]
    assert [text for text in complaints if "spec" not in text] == []  # it has no Gymnasium `spec`


def test_the_seed_of_the_environment_stands_in_for_those_of_resets() -> None:
    first, second, third = (make_env("gym/Reacher-v5", seed=seed) for seed in (4, 4, 5))
    starts = []
    for env in (first, second, third):
        starts.append([env.reset()[1]["physics"] for _ in range(2)] + [env.action_space.sample()])
    np.testing.assert_array_equal(np.concatenate(starts[0]), np.concatenate(starts[1]))
    assert not np.array_equal(starts[0][0], starts[0][1]), "each episode starts elsewhere"
    for mine, theirs in zip(starts[0], starts[2], strict=True):
        assert not np.array_equal(mine, theirs)


def reference_episode(task: str, seed: int, fractions: list[float]) -> list[Any]:
    """Pictures, rewards, states and observations of Gymnasium's own environment, drawn by its own renderer.

    Each action is a fraction of the range of all its entries, held for two frames.
    """
    identifier = task.removeprefix("gym/")
    camera: dict[str, Any] = {"camera_name": "track"} if task in FOLLOWED else {}
    env = gym.make(identifier, render_mode="rgb_array", width=64, height=64, **camera)
    simulation: Any = env.unwrapped
    renderer, space = simulation.mujoco_renderer, simulation.action_space
    if not camera:  # it would look where the first episode begins; ours looks at the model at rest
        mujoco.mj_forward(simulation.model, simulation.data)
        lookat = np.median(simulation.data.geom_xpos, axis=0)
        is_double = identifier == "InvertedDoublePendulum-v5"  # it defines a camera and forgets to use it
        config = DEFAULT_CAMERA_CONFIG if is_double else renderer.default_cam_config
        renderer.default_cam_config = {"lookat": lookat} | config
    observation, _ = env.reset(seed=seed)
    results: list[Any] = [(env.render(), 0.0, simulation.state_vector(), observation)]
    for fraction in fractions:
        control = ((1 - fraction) * space.low + fraction * space.high).astype(np.float32)
        steps = [env.step(control) for _ in range(2)]
        assert not any(step[2] or step[3] for step in steps)
        reward = sum(float(step[1]) for step in steps)
        results.append((env.render(), reward, simulation.state_vector(), steps[-1][0]))
    env.close()
    return results


@pytest.mark.parametrize("task", GYM_TASKS)
def test_it_is_gymnasiums_own_task_seen_by_a_camera_that_follows(task: str) -> None:
    fractions = [0.6, 0.0]
    expected = reference_episode(task, 11, fractions)
    env = make_env(task, look="original", stack=1)
    actions = [np.full(env.action_space.shape or (), 2 * fraction - 1) for fraction in fractions]
    for mine, (picture, reward, state, observation) in zip(run(env, 11, actions), expected, strict=True):
        assert mine[1] == pytest.approx(reward, rel=1e-6)
        np.testing.assert_allclose(mine[4]["physics"], state, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(mine[4]["proprio"], observation, rtol=1e-5, atol=1e-6)
        assert np.abs(mine[0].astype(int) - picture.transpose(2, 0, 1)).max() <= 1


def test_actions_beyond_the_range_are_held_at_its_ends() -> None:
    env = make_env("gym/Pusher-v5")
    assert base(env).action_space.high.max() == 2
    for action in (1.0, 3.0):
        env.reset(seed=0)
        env.step(np.full(7, action))
        np.testing.assert_array_equal(base(env).data.ctrl, np.full(7, 2.0))


@pytest.mark.parametrize("task", FOLLOWED)
def test_the_camera_follows_the_body(task: str) -> None:
    """Thirty metres on, the picture still shows a body where it was."""
    env = make_env(task, stack=1)
    pictures = []
    for metres in (0.0, 30.0):
        env.reset(seed=0)
        move(env, 0, metres)
        pictures.append(env.step(np.zeros(env.action_space.shape or ()))[0].astype(int))
    ours = [
        picture[0] - picture[2] > 40 for picture in pictures
    ]  # skin has more red than blue, floors do not
    assert ours[0].sum() > 40
    assert (ours[0] & ours[1]).sum() > 0.8 * ours[0].sum()


@pytest.mark.parametrize(
    "tasks",
    [
        ("gym/foreign/Swing-v0", "gym/Hopper-v5", "dmc/hopper-hop", "gym/Walker2d-v5", "gym/Hopper-v5"),
        ("gym/Hopper-v5", "gym/foreign/Swing-v0"),
    ],
)
def test_environments_of_one_process_draw_their_own_pictures(tasks: tuple[str, ...]) -> None:
    """Whoever drew before, also through dm_control or Gymnasium's renderer."""
    alone = []
    for task in tasks:
        env = make_env(task, stack=1, imports=FOREIGN)
        alone.append(run(env, 3, [np.ones(env.action_space.shape or ())] * 3))
        env.close()
    together = [make_env(task, stack=1, imports=FOREIGN) for task in tasks]
    frames = [[env.reset(seed=3)[0]] for env in together]
    for _ in range(3):
        for env, seen in zip(together, frames, strict=True):
            seen.append(env.step(np.ones(env.action_space.shape or ()))[0])
    for task, results, seen in zip(tasks, alone, frames, strict=True):
        for result, frame in zip(results, seen, strict=True):
            assert frame.any(), task
            np.testing.assert_array_equal(result[0], frame, err_msg=task)


def test_a_stack_holds_the_oldest_frame_first_and_repeats_the_first_at_a_reset() -> None:
    env, newest_only = make_env("gym/HalfCheetah-v5", stack=4), make_env("gym/HalfCheetah-v5", stack=1)
    actions = [env.action_space.sample() for _ in range(5)]
    for seed in (1, 2):
        frames = [result[0] for result in run(newest_only, seed, actions)]
        assert len({frame.tobytes() for frame in frames}) == 6, "the picture moves"
        for t, result in enumerate(run(env, seed, actions)):
            expected = [frames[max(0, t - age)] for age in (3, 2, 1, 0)]
            np.testing.assert_array_equal(result[0], np.concatenate(expected))
        np.testing.assert_array_equal(env.get_wrapper_attr("frame")(), frames[-1])


def test_observations_share_no_memory() -> None:
    for task in ("gym/Hopper-v5", "gym/foreign/Disc-v0"):
        env = make_env(task, stack=2, imports=FOREIGN)
        still = np.zeros(env.action_space.shape or ())
        observations = [env.reset(seed=0)[0], *(env.step(still)[0] for _ in range(3)), env.reset()[0]]
        for index, obs in enumerate(observations):
            assert obs.flags.owndata and obs.flags.writeable
            assert not any(np.shares_memory(obs, other) for other in observations[:index])


def test_a_decision_lasts_two_frames_and_sums_their_rewards() -> None:
    assert {default_action_repeat(task) for task in GYM_TASKS} == {2}
    env, frame_by_frame = make_env("gym/Swimmer-v5"), make_env("gym/Swimmer-v5", action_repeat=1)
    actions = [env.action_space.sample() for _ in range(3)]
    each = run(frame_by_frame, 5, [action for action in actions for _ in range(2)])
    for t, result in enumerate(run(env, 5, actions)):
        np.testing.assert_array_equal(result[0][-3:], each[2 * t][0][-3:])
        if t:
            assert result[4]["frames"] == 2
            assert result[1] == each[2 * t - 1][1] + each[2 * t][1]


def test_no_episode_runs_before_a_reset_and_actions_have_one_shape() -> None:
    env = make_env("gym/InvertedPendulum-v5")
    with pytest.raises(RuntimeError, match=r"call reset\(\) first"):
        env.step(np.zeros(1))
    env.reset(seed=0)
    for action in (np.zeros(2), 0.5):
        with pytest.raises(ValueError, match=r"expected \(1,\)"):
            env.step(action)
    env.close()
    env.close()


class TestForeign:
    """Environments that another package registers and draws."""

    def test_conformance(self) -> None:
        env, fresh = (make_env("gym/foreign/Disc-v0", seed=seed, imports=FOREIGN) for seed in (0, 1))
        spec = env_spec_of(env)
        assert (spec.task, spec.obs_shape, spec.action_dim) == ("gym/foreign/Disc-v0", (9, 64, 64), 2)
        assert (spec.episode_frames, spec.action_repeat, spec.can_terminate) == (1000, 2, True)
        assert (spec.physics_dim, spec.proprio_dim) == (0, 1)
        actions = [env.action_space.sample() for _ in range(6)]
        for result in run(env, 1, actions):
            check_result(result, spec)
        assert_same(run(env, 2, actions), run(fresh, 2, actions))
        check_env(env, skip_render_check=True)

    def test_its_picture_is_scaled_to_the_size_of_the_frames(self) -> None:
        env = make_env("gym/foreign/Disc-v0", stack=1, size=32, imports=FOREIGN)
        obs, _ = env.reset(seed=0)
        full = base(env).render().reshape(32, 3, 32, 4, 3).mean(axis=(1, 3))  # 96 x 128 -> 32 x 32
        assert np.abs(obs.transpose(1, 2, 0) - full).max() <= 1

    def test_only_a_flat_box_is_a_vector(self) -> None:
        flat, other = (
            make_env(f"gym/foreign/{name}-v0", action_repeat=1, imports=FOREIGN) for name in ("Disc", "Board")
        )
        for env in (flat, other):
            env.reset(options={"column": 11})
            info = env.step(np.array([1, -1], np.float32))[-1]
            assert info["proprio"].tolist() == ([base(env).column] if env is flat else [])
            assert env_spec_of(env).proprio_dim == len(info["proprio"])
            assert info["proprio"].dtype == np.float32

    def test_actions_arrive_in_its_own_range_shape_and_type(self) -> None:
        env = make_env("gym/foreign/Disc-v0", action_repeat=1, imports=FOREIGN)
        env.reset(seed=0)
        for action in ((-1, 0), (1, 9), (0.5, -0.5)):
            env.step(np.array(action, np.float32))
        np.testing.assert_array_equal(base(env).pushes, [[[-1, 1]], [[3, 3]], [[2, 0]]])
        assert base(env).pushes[0].dtype == np.float32

    def test_it_ends_as_it_likes(self) -> None:
        """By termination within a decision, by a limit of its own, or by one that it was registered with."""
        pushing, still = np.ones(2, np.float32), np.array([-0.5, -0.5], np.float32)
        for name, action, frames, ends in (
            ("Disc", pushing, [4, 4, 4, 4, 1, 4, 4], "terminated"),
            ("Limited", still, [4, 3], "truncated"),
            ("Cutting", still, [4, 1], "truncated"),
        ):
            env = make_env(f"gym/foreign/{name}-v0", action_repeat=4, imports=FOREIGN)
            env.reset(options={"column": 11})
            lasted = []
            terminated = truncated = False
            while not (terminated or truncated):
                _, reward, terminated, truncated, info = env.step(action)
                lasted.append(info["frames"])
                assert reward == info["frames"] * base(env).pushes[0].sum()
            assert lasted == frames[: len(lasted)] and len(lasted) > 1
            assert (terminated, truncated) == (ends == "terminated", ends == "truncated")

    def test_without_a_limit_it_is_cut_at_a_thousand_frames(self) -> None:
        env = make_env("gym/foreign/Disc-v0", action_repeat=600, imports=FOREIGN)
        results = run(env, 0, [np.array([-0.5, -0.5], np.float32)] * 2)
        assert [result[4]["frames"] for result in results] == [0, 600, 400]
        assert results[-1][2:4] == (False, True)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("Discrete", r"has actions Discrete\(3\), but only numbers between finite bounds"),
            ("Unbounded", "has actions Box.*finite bounds"),
            ("Whole", "has actions Box.*of floats"),
            ("Unseen", r"cannot be seen: in render mode rgb_array it gave NoneType \(\), not a picture"),
        ],
    )
    def test_what_cannot_be_learnt_from_pixels_is_refused(self, name: str, message: str) -> None:
        with pytest.raises(TaskError, match=f"gym/foreign/{name}-v0 {message}") as failure:
            make_env(f"gym/foreign/{name}-v0", imports=FOREIGN)
        assert "\n" not in str(failure.value)

    def test_workers_import_it_too(self) -> None:
        options: dict[str, Any] = {"count": 2, "seed": 1, "size": 32, "imports": FOREIGN}
        action = np.array([0.5, -0.5], np.float32)
        with (
            make_pool("gym/foreign/Disc-v0", in_process=True, **options) as serial,
            make_pool("gym/foreign/Disc-v0", in_process=False, **options) as processes,
        ):
            assert serial.env_spec == processes.env_spec
            for pool in (serial, processes):
                pool.reset({0: 5, 1: 6})
            one, other = (pool.step({0: action, 1: action}) for pool in (serial, processes))
            for index in (0, 1):
                for mine, theirs in zip(one[index].obs, other[index].obs, strict=True):
                    np.testing.assert_array_equal(mine, theirs)

    def test_a_worker_refuses_as_this_process_does(self) -> None:
        with pytest.raises(TaskError, match=r"gym/foreign/Discrete-v0 has actions Discrete\(3\)"):
            make_pool("gym/foreign/Discrete-v0", count=2, seed=0, imports=FOREIGN)


@pytest.mark.filterwarnings("ignore:.*out of date:DeprecationWarning")
def test_a_task_that_gymnasium_gave_up_says_so() -> None:
    with pytest.raises(TaskError, match=r"gym/Hopper-v2 cannot be built: .*gymnasium-robotics"):
        make_env("gym/Hopper-v2")
