from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from envs.registry import (
    GYM_TASKS,
    TASKS,
    TaskError,
    UnknownTaskError,
    canonical_task,
    default_action_repeat,
    make_env,
)

ROOT = Path(__file__).parents[2]


def test_the_tasks_written_out_are_those_of_the_suite() -> None:
    from dm_control import suite

    assert sorted(TASKS) == sorted(f"dmc/{domain}-{task}" for domain, task in suite.ALL_TASKS)


def test_the_gymnasium_tasks_written_out_are_its_newest_of_mujoco() -> None:
    import gymnasium

    newest = {
        f"gym/{spec.id}"
        for spec in gymnasium.registry.values()
        if spec.version == 5 and str(spec.entry_point).startswith("gymnasium.envs.mujoco.")
    }
    assert set(GYM_TASKS) == newest - {"gym/HumanoidStandup-v5"}


def test_names_are_checked_without_importing_a_simulator() -> None:
    code = """
import sys
from envs.registry import UnknownTaskError, canonical_task, default_action_repeat, make_env
assert canonical_task("gym_hopper") == "gym/Hopper-v5" and "gymnasium" not in sys.modules
import envs, envs.vector
assert canonical_task("walker_walk") == "dmc/walker-walk" and default_action_repeat("walker_walk") == 2
assert canonical_task("gym/Pendulum-v1") == "gym/Pendulum-v1"
try:
    make_env("walker-fly")
except UnknownTaskError:
    pass
heavy = {"mujoco", "dm_control", "OpenGL", "torch"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_known_by_its_aliases(task: str) -> None:
    domain, name = task.removeprefix("dmc/").split("-")
    aliases = [
        task,
        f"{domain}-{name}",
        f"{domain}_{name}",
        f"{domain}/{name}",
        f"dmc_{domain}_{name}",
        f"dm_control/{domain}-{name}-v0",
        f"{domain}-{name}-v12",
        task.upper(),
        task.replace("_", "-"),
        f"  {domain} {name}\n",
    ]
    assert {alias: canonical_task(alias) for alias in aliases} == dict.fromkeys(aliases, task)


@pytest.mark.parametrize("task", GYM_TASKS)
def test_every_gymnasium_task_is_known_by_its_aliases(task: str) -> None:
    name = task.removeprefix("gym/").removesuffix("-v5")
    snake = re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower()
    aliases = [
        task,
        task.lower(),
        f"gym/{name}",
        f"gymnasium/{name}-v5",
        f"gym_{snake}",
        f"gym-{snake}-v5",
        f"{name}-v5",
        f"{snake}_v5\n",
    ]
    assert {alias: canonical_task(alias) for alias in aliases} == dict.fromkeys(aliases, task)
    assert default_action_repeat(task) == 2


def test_other_ids_of_gymnasium_are_taken_as_they_are_registered() -> None:
    assert canonical_task("gym/Hopper-v4") == "gym/Hopper-v4", "another task than v5"
    assert canonical_task("gymnasium/Pendulum-v1") == "gym/Pendulum-v1"
    assert default_action_repeat("gym/Pendulum-v1") == 2
    for name in ("gym/Hopper-v6", "gym/pendulum-v1", "Pendulum-v1", "gym/"):
        with pytest.raises(UnknownTaskError):
            canonical_task(name)


@pytest.mark.parametrize(
    ("name", "offered"),
    [
        ("walker-wlak", "dmc/walker-walk"),
        ("dmc/cartpole_swing_up", "dmc/cartpole-swingup"),
        ("ball_in_cup", "dmc/ball_in_cup-catch"),
        ("cheetah", "dmc/cheetah-run"),
        ("humanoidcmu-run", "dmc/humanoid_CMU-run"),
        ("count", "counting"),
        ("Hopper", "gym/Hopper-v5"),
        ("HalfCheeta-v5", "gym/HalfCheetah-v5"),
        ("gym/Hoper-v5", "gym/Hopper-v5"),
        ("gym/Walker-v5", "gym/Walker2d-v5"),
        ("gym/pendulum", "gym/Pendulum-v1"),
    ],
)
def test_an_unknown_name_is_offered_near_ones(name: str, offered: str) -> None:
    with pytest.raises(UnknownTaskError, match=f"unknown task '{name}': did you mean .*{offered}"):
        canonical_task(name)


@pytest.mark.parametrize("name", ["", "dmc/", "zzz", "gym/"])
def test_a_name_like_no_other_is_told_the_pattern(name: str) -> None:
    with pytest.raises(UnknownTaskError, match="named like dmc/walker-walk"):
        canonical_task(name)


def test_an_id_of_another_package_needs_the_module_that_registers_it() -> None:
    with pytest.raises(UnknownTaskError, match=r"knows no such id.*--import MODULE"):
        canonical_task("gym/absent/Quux-v0")


def test_customary_action_repeats() -> None:
    repeats = {task: default_action_repeat(task) for task in TASKS}
    assert {task for task, repeat in repeats.items() if repeat == 8} == {
        task for task in TASKS if task.startswith("dmc/cartpole-")
    }
    assert {task for task, repeat in repeats.items() if repeat == 2} == {
        task for task in TASKS if task.startswith(("dmc/finger-", "dmc/walker-"))
    }
    assert set(repeats.values()) == {2, 4, 8}
    assert default_action_repeat("dm_control/finger-spin-v0") == 2
    assert default_action_repeat("counting") == 1


def test_the_customary_action_repeat_gives_way_to_another() -> None:
    specs = [make_env("counting", action_repeat=repeat).get_wrapper_attr("env_spec") for repeat in (None, 3)]
    assert [spec.action_repeat for spec in specs] == [1, 3]


def test_asking_for_the_repeat_of_an_unknown_task_fails_as_making_it_does() -> None:
    for function in (default_action_repeat, make_env):
        with pytest.raises(UnknownTaskError, match="walker-walk"):
            function("walker-wlak")


@pytest.mark.gl
def test_modules_are_imported_before_a_name_is_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_tasks.py").write_text(
        "import gymnasium, os\n"
        "assert os.environ['MUJOCO_GL'], 'they may import MuJoCo'\n"
        "gymnasium.register('their/Task-v3', 'nowhere:Env')\n"
    )
    (tmp_path / "broken_tasks.py").write_text("import gymnasium.no_such_part\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnknownTaskError, match="--import MODULE"):
        canonical_task("gym/their/Task-v3")
    for _ in range(2):
        assert canonical_task("gym/their/Task-v3", ["their_tasks"]) == "gym/their/Task-v3"
    with pytest.raises(TaskError, match=r"cannot import broken_tasks \(ModuleNotFoundError: .*PYTHONPATH"):
        canonical_task("dmc/walker-walk", ["broken_tasks"])
