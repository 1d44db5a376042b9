from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.load import ConfigError
from configs.pretrain import PretrainConfig
from configs.resuming import check_pretraining, check_run, check_same
from configs.schema import Config

DEFAULT = Config()


def change(**values: Any) -> Config:
    return Config.model_validate(values)


VALUES = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 2))


@given(old=VALUES, new=VALUES, free=st.sets(st.sampled_from("abcdef")))
def test_all_that_differs_is_named_and_what_is_free_is_not(
    old: dict[str, int], new: dict[str, int], free: set[str]
) -> None:
    expected = {
        f"{name} was {old.get(name)}, now {new.get(name)}"
        for name in "abcdef"
        if name not in free and old.get(name) != new.get(name)
    }
    try:
        check_same("this work", old, new, free=free)
        found = set()
    except ConfigError as error:
        start, listed, end = str(error).replace("(", ")").split(")")
        found = set(listed.split("; "))
        assert start == "this work was begun with other options "
        assert end == ": give the same ones to go on, or another --out to start afresh"
    assert found == expected


@pytest.mark.parametrize(
    "new",
    [
        change(),
        change(frames=DEFAULT.frames + 1),
        change(device="cpu"),
        change(out="elsewhere", preset="cpu"),
        change(logging={"progress": False, "every_updates": 1, "checkpoint_every_frames": 9}),
        change(training={"threads": 3}),
    ],
)
def test_run_may_go_on(new: Config) -> None:
    check_run(Config(), new)


def test_checkpoints_pace_several_environments() -> None:
    """They wait for one another to save, so when they save changes what is recorded."""
    with pytest.raises(ConfigError, match=r"--logging\.checkpoint-every-frames was 5000, now 9"):
        check_run(change(envs=2), change(envs=2, logging={"checkpoint_every_frames": 9}))


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (change(seed=7), f"--seed was {DEFAULT.seed}, now 7"),
        (change(frames=9), f"--frames was {DEFAULT.frames}, now 9"),
        (
            change(training={"threads": 3, "batch_size": 9}),
            f"--training.batch-size was {DEFAULT.training.batch_size}, now 9",
        ),
        (
            change(world_model={"encoder": {"channels": 9}}),
            f"--world-model.encoder.channels was {DEFAULT.world_model.encoder.channels}, now 9",
        ),
        (change(action_repeat=4), "--action-repeat was unset, now 4"),
        (change(imports=("a", "b")), "--import was unset, now a, b"),
        (change(from_run="/a/run"), "--from was unset, now /a/run"),
    ],
)
def test_run_of_other_options_is_refused(new: Config, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_run(Config(), new)
    assert f"({message})" in str(caught.value), "that difference and no other"
    assert "another --out" in str(caught.value)


@pytest.mark.parametrize("name", ["from_run", "encoder"])
@pytest.mark.parametrize("path", ["EX/", "./EX", "a/../EX", str(Path("EX").absolute())])
def test_a_path_may_be_written_otherwise(name: str, path: str) -> None:
    check_run(change(**{name: "EX"}), change(**{name: path}))
    with pytest.raises(ConfigError):
        check_run(change(**{name: "EX"}), change(**{name: f"{path}/b"}))


def test_all_differences_are_listed() -> None:
    with pytest.raises(ConfigError, match=r"--seed was 1, now 7; --size was 64, now 84"):
        check_run(Config(), change(seed=7, size=84))


def test_run_with_other_distractors_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"\(--distract was none, now camera=easy\)"):
        check_run(Config(), change(distract="camera=easy"))


@pytest.mark.parametrize(
    "options",
    [
        {"out": "elsewhere", "device": "cpu", "threads": 3, "recipe": "none"},
        {"batch": {"chunk": 4}, "pairs": {"tile": 4}, "logging": {"every_updates": 9, "progress": False}},
    ],
)
def test_pretraining_may_go_on(options: dict[str, Any]) -> None:
    check_pretraining(PretrainConfig(), PretrainConfig.model_validate(options))


def test_data_may_be_written_otherwise() -> None:
    old = PretrainConfig(data=("a/../b", "c"))
    check_pretraining(old, PretrainConfig(data=("b", "c/")))
    with pytest.raises(ConfigError, match=r"--data was /.*/b, /.*/c, now /.*/c, /.*/b"):
        check_pretraining(old, PretrainConfig(data=("c", "b")))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"updates": 20_000}, "--updates was 10000, now 20000"),
        ({"batch": {"size": 8, "chunk": 4}}, "--batch.size was 256, now 8"),
        ({"method": "byol", "threads": 2}, "--method was simclr, now byol"),
        ({"data": ["/b", "/a/../a"]}, "--data was unset, now /b, /a"),
    ],
)
def test_pretraining_with_other_options_is_refused(options: dict[str, Any], message: str) -> None:
    """More updates too: the schedule of the step sizes depends on them."""
    with pytest.raises(ConfigError) as caught:
        check_pretraining(PretrainConfig(), PretrainConfig.model_validate(options))
    assert f"this pretraining was begun with other options ({message}): " in str(caught.value)
