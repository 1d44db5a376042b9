"""What `nearfar bench` times is what its options ask for."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import pytest
import torch

import envs
from agent.controller import Controller
from agent.replay import Replay
from configs.schema import Config
from scripts import bench


def test_parts_are_timed_as_configured(tiny_config: Callable[..., Config]) -> None:
    config = tiny_config(
        task="counting",
        size=40,
        look="original",
        action_repeat=4,
        training={"batch_size": 6, "exploration_std": 0.7, "updates_per_step": 0.5},
    )
    with (
        mock.patch.object(envs, "make_env", wraps=envs.make_env) as make_env,
        mock.patch.object(Replay, "sample", autospec=True, side_effect=Replay.sample) as sample,
        mock.patch.object(Controller, "act", autospec=True, side_effect=Controller.act) as act,
    ):
        result = bench.measure(config, torch.device("cpu"))
    drawn = make_env.call_args.kwargs
    assert (drawn["size"], drawn["look"], drawn["action_repeat"]) == (40, "original", 1), "single frames"
    assert {call.args[1] for call in sample.call_args_list} == {6}
    assert {call.args[2] for call in act.call_args_list} == {0.7}
    (obs,) = act.call_args.args[1].values()
    assert obs.pixels.shape == (9, 40, 40)
    assert (result["batch_size"], result["horizon"], result["envs"]) == (6, 3, 1)
    step, draw = 1000 / result["env_steps_per_s"], 1000 / result["render_fps"]
    parts = {"rendering": min(step, draw), "physics": max(0.0, step - draw), "acting": result["act_ms"]}
    parts |= {"sampling": result["sample_ms"] / 2, "augmentation": result["augment_ms"] / 2}
    parts["update"] = (result["update_ms"] - result["augment_ms"]) / 2
    assert result["shares"] == pytest.approx(
        {name: milliseconds / sum(parts.values()) for name, milliseconds in parts.items()}
    )
