from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from configs.load import ConfigError, load_config
from configs.schema import Config
from scripts.run_directory import RunDirectoryError, held_run_directory


def test_new_directory_gets_the_configuration(tmp_path: Path) -> None:
    with held_run_directory(tmp_path / "a" / "b", Config(seed=5)):
        assert load_config(tmp_path / "a" / "b" / "config.yaml") == Config(seed=5)


def test_run_may_be_extended(tmp_path: Path) -> None:
    with held_run_directory(tmp_path, Config(frames=10)):
        pass
    with held_run_directory(tmp_path, Config(frames=20)):
        assert load_config(tmp_path / "config.yaml").frames == 20


def test_other_options_are_refused_and_change_nothing(tmp_path: Path) -> None:
    with held_run_directory(tmp_path, Config(seed=1)):
        (tmp_path / "episodes").mkdir()
        (tmp_path / "episodes" / "store.json").touch()
    with pytest.raises(ConfigError, match="seed was 1, now 2"), held_run_directory(tmp_path, Config(seed=2)):
        pass
    assert load_config(tmp_path / "config.yaml").seed == 1


def test_a_run_that_has_not_begun_may_change_its_options(tmp_path: Path) -> None:
    with held_run_directory(tmp_path, Config(seed=1)):
        pass
    with held_run_directory(tmp_path, Config(seed=2)):
        assert load_config(tmp_path / "config.yaml").seed == 2


def test_a_full_disk_leaves_a_directory_that_can_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=r"config\.yaml"), held_run_directory(tmp_path, Config()):
            pass
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    (tmp_path / "config.yaml.tmp").touch()  # of a process that was killed
    with held_run_directory(tmp_path, Config()):
        pass


def test_impossible_places_are_named(tmp_path: Path) -> None:
    for path in (Path("/proc/nearfar"), tmp_path / (300 * "x")):
        with pytest.raises(RunDirectoryError, match="another --out"), held_run_directory(path, Config()):
            pass


def test_second_process_is_refused(tmp_path: Path) -> None:
    # A lock belongs to an open file: a second one in this process counts like another process.
    with (
        held_run_directory(tmp_path, Config()),
        pytest.raises(RunDirectoryError, match=rf"in use by pid {os.getpid()}: .*another --out"),
        held_run_directory(tmp_path, Config()),
    ):
        pass


def test_lock_is_released(tmp_path: Path) -> None:
    for _ in range(2):
        with held_run_directory(tmp_path, Config()):
            pass
    with (tmp_path / ".lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_directory_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(RunDirectoryError, match="holds no run"), held_run_directory(tmp_path, Config()):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RunDirectoryError, match="give another --out"), held_run_directory(path, Config()):
            pass


def test_a_new_directory_goes_with_the_error_that_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    with pytest.raises(ConfigError), held_run_directory(path, Config()):
        raise ConfigError
    assert not (tmp_path / "a").exists() and tmp_path.exists()


@pytest.mark.parametrize(
    ("before", "recorded", "error"),
    [
        (["run"], [], ConfigError),
        (["run", "run/config.yaml"], [], ConfigError),
        ([], ["run/manifest.json"], ConfigError),
        ([], ["run/checkpoints"], ConfigError),
        ([], [], KeyboardInterrupt),
    ],
)
def test_what_was_there_or_was_recorded_stays(
    tmp_path: Path, before: list[str], recorded: list[str], error: type[BaseException]
) -> None:
    path = tmp_path / "run"
    for name in before:
        each = tmp_path / name
        each.touch() if each.suffix else each.mkdir()
    with pytest.raises(error), held_run_directory(path, Config()):
        for name in recorded:
            (tmp_path / name).mkdir()
        raise error
    found = {each.relative_to(tmp_path).as_posix() for each in tmp_path.rglob("*")}
    assert found == {"run", "run/config.yaml", "run/.lock", *recorded}


def test_a_directory_above_that_is_used_by_others_stays(tmp_path: Path) -> None:
    with pytest.raises(ConfigError), held_run_directory(tmp_path / "a" / "b", Config()):
        (tmp_path / "a" / "c").mkdir()
        raise ConfigError
    assert [each.name for each in (tmp_path / "a").iterdir()] == ["c"]
