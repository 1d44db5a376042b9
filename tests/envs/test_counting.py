from __future__ import annotations

import numpy as np
import pytest

from envs import make_env
from envs.counting import CountingEnv, decode_episode, decode_step

ACTION = np.zeros(2, np.float32)


def test_pixels_decode_to_the_step_and_the_episode() -> None:
    env = CountingEnv(length=300, size=8)
    obs, info = env.reset(seed=7)
    for step in range(301):
        frames = obs.reshape(3, 3, 8, 8)  # (stack, channels, height, width)
        np.testing.assert_array_equal(decode_step(frames), [max(0, step - age) for age in (2, 1, 0)])
        np.testing.assert_array_equal(decode_episode(frames), [7, 7, 7])
        np.testing.assert_array_equal(env.frame(), frames[-1])
        np.testing.assert_array_equal(info["physics"], [step, 7])
        np.testing.assert_array_equal(info["proprio"], [step, 7])
        if step < 300:
            obs, reward, terminated, truncated, info = env.step(ACTION)
            assert (reward, info["frames"]) == (step, 1)
            assert (terminated, truncated) == (False, step == 299)


def test_decoding_keeps_leading_axes() -> None:
    env = CountingEnv(size=8, stack=1)
    frames = np.stack([env.reset(seed=3)[0], env.step(ACTION)[0]])
    batch = np.stack([frames, frames])  # (2, 2, 3, 8, 8)
    assert decode_step(batch).dtype == np.int64
    np.testing.assert_array_equal(decode_step(batch), [[0, 1], [0, 1]])
    np.testing.assert_array_equal(decode_episode(batch), np.full((2, 2), 3))


def test_an_episode_is_named_by_its_seed_and_else_follows_the_last() -> None:
    env = CountingEnv(size=8)
    seeds_and_episodes = [(None, 0), (None, 1), (254, 254), (None, 255), (None, 0), (256 + 9, 9)]
    for seed, episode in seeds_and_episodes:
        obs, info = env.reset(seed=seed)
        assert decode_episode(obs[:3]) == episode == info["physics"][1]


def test_the_last_decision_is_shortened_to_the_time_limit() -> None:
    env = CountingEnv(length=10, action_repeat=4, terminate=True, size=8)
    assert env.env_spec.episode_steps == 3
    env.reset()
    ends = [env.step(ACTION)[2:] for _ in range(3)]
    assert [info["frames"] for _, _, info in ends] == [4, 4, 2]
    assert [(terminated, truncated) for terminated, truncated, _ in ends] == [
        (False, False),
        (False, False),
        (True, False),
    ]


def test_no_episode_is_running_before_a_reset_and_after_the_end() -> None:
    env = CountingEnv(length=1, size=8)
    with pytest.raises(RuntimeError, match=r"call reset\(\) first"):
        env.step(ACTION)
    env.reset()
    env.step(ACTION)
    with pytest.raises(RuntimeError, match=r"call reset\(\) first"):
        env.step(ACTION)


def test_it_is_made_by_name() -> None:
    env = make_env("counting", size=16, stack=2, look="original", seed=4)
    obs, info = env.reset(seed=2**40)
    assert obs.shape == env.observation_space.shape == (6, 16, 16)
    assert obs.dtype == np.uint8 and info["frames"] == 0
    spec = env.get_wrapper_attr("env_spec")
    assert (spec.task, spec.look, spec.action_repeat, spec.episode_frames) == ("counting", "original", 1, 100)
    same, other = (make_env("counting", seed=seed).action_space.sample() for seed in (4, 5))
    np.testing.assert_array_equal(env.action_space.sample(), same)
    assert not np.array_equal(same, other)
