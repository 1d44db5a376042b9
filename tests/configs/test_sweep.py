from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from configs.load import ConfigError, save_config
from configs.sweep import Sweep, make_sweep, read_sweep, sweep_names

SMALL: dict[str, Any] = {
    "tasks": ["dmc/walker-walk"],
    "seeds": [1, 2],
    "options": {"frames": 3000, "training": {"batch_size": 32}},
    "variants": {
        "short": "cpu",
        "long": {"preset": "cpu+queue", "world-model.queue": 99, "training.batch_size": 16},
    },
}


def test_options_are_dotted_or_grouped_and_the_variant_has_the_last_word() -> None:
    sweep = make_sweep(SMALL, "here")
    short, long = (sweep.config_of(variant) for variant in ("short", "long"))
    assert (short.frames, short.training.batch_size, short.world_model.queue) == (3000, 32, 0)
    assert (long.frames, long.training.batch_size, long.world_model.queue) == (3000, 16, 99)
    assert (short.preset, long.preset) == ("cpu", "cpu+queue")


def test_saved_sweep_says_the_same(tmp_path: Path) -> None:
    sweep = make_sweep(SMALL, "here")
    path = tmp_path / "sweep.yaml"
    save_config(sweep, path)
    assert make_sweep(read_sweep(str(path)), "there") == sweep
    assert list(make_sweep(read_sweep(str(path)), "there").variants) == ["short", "long"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": ["a"]}, "unknown option task; perhaps you meant tasks"),
        ({"tasks": []}, "tasks: .*at least 1 item"),
        ({"seeds": [1, 2, 1]}, "seeds: 1 is listed twice"),
        ({"seeds": [-1]}, "seeds.0: .*not -1"),
        ({"variants": {"a/b": "cpu"}}, "variant 'a/b' cannot name a folder"),
        ({"options": {"seed": 3}}, "options may not set seed: list it under seeds"),
        ({"variants": {"x": {"logging": {"progress": True}}}}, r"x may not set logging\.progress"),
    ],
)
def test_mistakes_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"in here: {message}"):
        make_sweep(SMALL | change, "here")


def test_a_missing_part_is_named() -> None:
    with pytest.raises(ConfigError, match="in here: variants is missing"):
        make_sweep({"tasks": ["a"], "seeds": [1]}, "here")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"preset": "cpu", "world_model.queu": 3},
            "unknown option world_model.queu; perhaps you meant queue",
        ),
        ({"preset": "cp"}, "unknown preset 'cp'; perhaps you meant cpu"),
        ({"preset": "cpu", "frames": "many"}, "frames: .*not 'many'"),
        ({"preset": "cpu", "training": 3}, "training: .*not 3"),
    ],
)
def test_mistakes_of_a_variant_are_named(options: dict[str, Any], message: str) -> None:
    sweep = make_sweep(SMALL | {"variants": {"odd": options}}, "here")
    with pytest.raises(ConfigError, match=message):
        sweep.config_of("odd")


def test_unknown_sweep_offers_near_names(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown sweep 'smok'; perhaps you meant smoke, or give the path"):
        read_sweep("smok")
    with pytest.raises(ConfigError, match=r"cannot read .*absent\.yaml"):
        read_sweep(str(tmp_path / "absent.yaml"))


def shipped(name: str) -> Sweep:
    return make_sweep(read_sweep(name), name)


def test_shipped_sweeps() -> None:
    assert sweep_names() == ["dmc100k", "dmc_vision20", "objectives", "smoke"]
    assert len(shipped("dmc100k").tasks) == 6
    assert shipped("dmc100k").options["frames"] == 100_000
    assert len(shipped("dmc_vision20").tasks) == 20
    objectives = shipped("objectives")
    assert len(objectives.tasks) == 3
    for variant in objectives.variants:
        preset = str(objectives.variants[variant]["preset"]).replace("auto", "cpu")
        config = make_sweep(
            objectives.model_dump() | {"variants": {variant: preset}}, "objectives"
        ).config_of(variant)
        assert config.world_model.objective == variant
    assert list(objectives.variants) == [
        "contrastive",
        "reconstruction",
        "predictive",
        "byol",
        "barlow",
        "supervised",
        "none",
    ]
    smoke = shipped("smoke")
    assert (len(smoke.tasks), len(smoke.variants), len(smoke.seeds)) == (2, 2, 2)
