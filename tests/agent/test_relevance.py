"""The table of options that count only beside others, against what an agent does with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from agent.curious import make_agent
from configs.load import ConfigError
from configs.relevance import CONDITIONS, check_counts
from configs.schema import Config
from envs.spec import EnvSpec
from scripts.options import parse_config
from world_model.batch import Batch

# Seen by the loop and the planner alone, which their own tests are about.
BY_THE_LOOP = {
    "curiosity.planning_memory",
    "curiosity.own_share",
    "actor_critic.imagination_after_updates",
    "training.encoder_warmup_updates",
}

CURIOUS = {"curiosity.bonus": "contrastive", "curiosity.memory": 50}
# Option -> a value to set, options beside which it does nothing, options beside which it counts.
CASES: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "world_model.temperature": (0.5, {"world_model.objective": "byol"}, {}),
    "world_model.projection_dim": (4, {"world_model.objective": "predictive"}, {}),
    "world_model.augmentation_weight": (3.0, {"world_model.objective": "margin"}, {}),
    "world_model.temporal_weight": (3.0, {"world_model.objective": "augmentation"}, {}),
    "world_model.consistency_weight": (3.0, {"world_model.objective": "temporal"}, {}),
    "world_model.reconstruction_weight": (3.0, {}, {"world_model.objective": "reconstruction"}),
    "world_model.label_weight": (3.0, {}, {"world_model.objective": "supervised"}),
    "world_model.encoder.channels": (5, {"obs": "state"}, {}),
    "world_model.encoder.shift_padding": (4, {"obs": "state"}, {}),
    "world_model.encoder.crop": (32, {"obs": "state"}, {"size": 40}),
    "world_model.encoder.proprio_noise": (0.5, {}, {"obs": "state"}),
    "world_model.encoder.proprio_dropout": (0.5, {}, {"obs": "state"}),
    "actor_critic.imagination_horizon": (2, {"actor_critic.imagined_updates": 0}, {}),
    "actor_critic.imagination_trace": (0.1, {"actor_critic.imagined_updates": 0}, {}),
    "actor_critic.imagination_std": (0.9, {"actor_critic.imagined_updates": 0}, {}),
    "actor_critic.planner_filter": (False, {}, {"actor_critic.planner_weight": 1.0}),
    "curiosity.weight": (0.5, {}, CURIOUS),
    "curiosity.final_weight": (0.5, {}, CURIOUS),
    "curiosity.frames": (7, {}, CURIOUS),
    "curiosity.clip": (0.01, {}, CURIOUS),
    "curiosity.extra_updates": (2, {}, CURIOUS),
    "curiosity.memory": (20, {"curiosity.bonus": "disagreement"}, {"curiosity.bonus": "knn"}),
    "curiosity.temperature": (0.7, {"curiosity.bonus": "knn"}, CURIOUS),
    "curiosity.near": (0.01, CURIOUS, CURIOUS | {"curiosity.bonus": "surprise"}),
    "curiosity.neighbours": (3, CURIOUS, CURIOUS | {"curiosity.bonus": "knn"}),
    "curiosity.members": (3, CURIOUS, CURIOUS | {"curiosity.bonus": "disagreement"}),
    "curiosity.member_dim": (24, CURIOUS, CURIOUS | {"curiosity.bonus": "disagreement"}),
}


def nested(options: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, value in options.items():
        *groups, name = path.split(".")
        place = tree
        for group in groups:
            place = place.setdefault(group, {})
        place[name] = value
    return tree


def test_every_option_of_the_table_has_a_case() -> None:
    assert CASES.keys() | BY_THE_LOOP == CONDITIONS.keys()


@pytest.mark.parametrize("option", CASES)
def test_options_count_where_the_table_says_and_nowhere_else(
    option: str,
    env_spec: EnvSpec,
    tiny_config: Callable[..., Config],
    make_batch: Callable[..., Batch],
) -> None:
    """An agent is the same to the bit, weights and all, or it is not."""
    value, idle, counting = CASES[option]

    def learnt(options: dict[str, Any]) -> dict[str, Any]:
        config = tiny_config(**nested(options))
        torch.manual_seed(0)
        size = (env_spec.frame_shape[0], config.size, config.size)
        agent = make_agent(EnvSpec(**vars(env_spec) | {"frame_shape": size}), config, torch.device("cpu"))
        generator = torch.Generator().manual_seed(0)
        for seed in range(2):
            agent.advance(6 * seed)
            agent.update(make_batch(agent.env_spec, seed=seed), generator)
        return agent.state_dict()

    def is_same(options: dict[str, Any]) -> bool:
        try:
            torch.testing.assert_close(learnt(options), learnt(options | {option: value}), rtol=0, atol=0)
        except AssertionError:
            return False
        return True

    assert is_same(idle)
    assert not is_same(counting)
    assert not CONDITIONS[option].holds(tiny_config(**nested(idle)))
    assert CONDITIONS[option].holds(tiny_config(**nested(counting)))


@pytest.mark.parametrize("option", CONDITIONS)
def test_paths_of_the_table_are_those_of_options(option: str) -> None:
    check_counts(Config(), Config())
    place: Any = Config()
    for name in option.split("."):
        assert name in type(place).model_fields
        place = getattr(place, name)


def test_a_flag_that_does_nothing_is_refused() -> None:
    byol = ["--device", "cpu", "--preset", "cpu+byol"]
    with pytest.raises(
        ConfigError, match=r"world_model.temperature does nothing here: it counts with .*temporal"
    ):
        parse_config(Config, "train", [*byol, "--world-model.temperature", "0.5"])
    parse_config(Config, "train", ["--preset", "cpu", "--device", "cpu", "--world-model.temperature", "0.5"])
    before = parse_config(Config, "train", byol)
    assert before.world_model.objective == "byol"
