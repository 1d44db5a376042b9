"""`nearfar collect` as a user runs it: processes, files and exit codes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from configs.load import load_config
from envs.episodes import EpisodeStore
from envs.recording import Episode
from envs.spec import EnvSpec, Observation
from scripts import cli

Mistake = Callable[..., str]

COUNTING = ("collect", "--task", "counting", "--size", "32")
CARTPOLE = ("collect", "--task", "cartpole_swingup", "--size", "32", "--behaviour", "smooth-random")


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "scripts.cli", *map(str, arguments)]


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.name != ".lock"}


@pytest.fixture
def mistake(capsys: pytest.CaptureFixture[str]) -> Mistake:
    """Runs a command that is a user's mistake; returns what it said on stderr."""

    def run(*arguments: str | Path) -> str:
        assert cli.main([str(argument) for argument in arguments]) == 2
        text = capsys.readouterr().err
        assert text.startswith("nearfar: error: ") and text.count("\n") == 1
        return text

    return run


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Three counting episodes, never written to by a test, and what was printed."""
    out = tmp_path_factory.mktemp("collected") / "data"
    arguments = (*COUNTING, "--behaviour", "random=1,smooth-random=2", "--episodes", "3", "--out", out)
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "frame/s" in done.stderr
    return out, done.stdout


def test_a_collection_is_a_store_and_says_what_made_it(collected: tuple[Path, str]) -> None:
    out, printed = collected
    store = EpisodeStore(out)
    assert (store.ids(), store.verify()) == ([0, 1, 2], [])
    infos = [store.read(number).info for number in store.ids()]
    assert sorted(info.behaviour for info in infos) == ["random", "smooth-random", "smooth-random"]
    assert infos[0].versions["mujoco"].startswith("3.")
    record = json.loads((out / "collect.json").read_text())
    assert record["options"]["behaviour"] == "random=1,smooth-random=2"
    assert (record["options"]["task"], record["options"]["action_repeat"]) == ("counting", 1)
    assert record["goal"] == {"episodes": 3, "frames": None}
    assert record["policy"] is None
    assert f"counting: 3 episodes, 300 frames in {out}" in printed
    assert "smooth-random      2 episodes   return 4950.0 ± 0.0" in printed


def test_more_episodes_are_added(collected: tuple[Path, str], tmp_path: Path) -> None:
    out = tmp_path / "data"
    shutil.copytree(collected[0], out)
    same = ("--behaviour", "random=1,smooth-random=2", "--out", str(out))
    assert cli.main([*COUNTING, *same, "--frames", "450", "--envs", "2", "--no-progress"]) == 0
    before, after = contents(collected[0]), contents(out)
    assert EpisodeStore(out).ids() == [0, 1, 2, 3, 4]
    del before["collect.json"]
    assert before.items() <= after.items()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("--seed 2", "seed was 1, now 2"),
        ("--behaviour random", "behaviour was random=1,smooth-random=2, now random"),
        ("--size 40", "size was 32, now 40"),
        ("--action-repeat 2", "action_repeat was 1, now 2"),
        ("--correlation-frames 9", "correlation_frames was 50.0, now 9.0"),
    ],
)
def test_other_options_are_refused_and_change_nothing(
    collected: tuple[Path, str], changed: str, message: str, mistake: Mistake
) -> None:
    before = contents(collected[0])
    same = ("--behaviour", "random=1,smooth-random=2", "--out", collected[0], "--episodes", "4")
    text = mistake(*COUNTING, *same, *changed.split())
    assert message in text and "another --out" in text
    assert contents(collected[0]) == before


def test_a_collection_from_elsewhere_goes_on_with_a_note(
    collected: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "data"
    shutil.copytree(collected[0], out)
    path = out / "collect.json"
    path.write_text(path.read_text().replace('"mujoco": "', '"mujoco": "0.'))
    same = ("--behaviour", "random=1,smooth-random=2", "--out", str(out), "--episodes", "3")
    assert cli.main([*COUNTING, *same]) == 0
    assert "this collection began elsewhere (mujoco was 0.3." in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"options": 3}', '{"options": {}, "machine": {}}', "[" * 9999]
)
def test_a_damaged_record_is_named(
    collected: tuple[Path, str], tmp_path: Path, text: str, mistake: Mistake
) -> None:
    out = tmp_path / "data"
    shutil.copytree(collected[0], out)
    (out / "collect.json").write_text(text)
    assert "cannot read" in mistake(*COUNTING, "--out", out, "--episodes", "4")


def test_a_damaged_episode_is_named(collected: tuple[Path, str], tmp_path: Path, mistake: Mistake) -> None:
    out = tmp_path / "data"
    shutil.copytree(collected[0], out)
    os.truncate(EpisodeStore(out).file(1), 1000)
    same = ("--behaviour", "random=1,smooth-random=2", "--out", out, "--episodes", "4")
    assert "episode-00000001.safetensors" in mistake(*COUNTING, *same)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "say how much to record: either --episodes or --frames"),
        ("--episodes 3 --frames 3", "say how much to record: either --episodes or --frames"),
        ("--episodes 0", "episodes: input should be greater than 0, not 0"),
        ("--episodes 3 --behaviour randm", "unknown behaviour 'randm'; perhaps you meant random"),
        (
            "--episodes 3 --behaviour policy",
            "policy needs a trained agent: give its run as --from",
        ),
        ("--episodes 3 --behaviour random=1,explore=1", "explore needs a trained agent: give its run"),
        ("--episodes 3 --noise 0.1 --control mppi", "--noise and --control: only for the behaviours policy"),
        ("--episodes 3 --task dmc/walker-wlak", "dmc/walker-walk"),
        ("--episodes 3 --correlation-frames 0", "correlation_frames: input should be greater than 0"),
        ("--episodes 3 --distract camera=easy", "counting draws no scene to distract from"),
        ("--episodes 3 --from absent", "absent holds no checkpoint: train there first"),
        ("--episodes 3 --out /proc/nearfar", "/proc/nearfar cannot be a collection directory"),
        ("--episodes 3 --out tests", "tests exists and holds no collection: give another --out"),
    ],
)
def test_mistakes_leave_nothing_behind(
    arguments: str, message: str, mistake: Mistake, tmp_path: Path
) -> None:
    where = [] if "--out" in arguments else ["--out", str(tmp_path / "data")]
    assert message in mistake(*COUNTING, *where, *arguments.split())
    assert not (tmp_path / "data").exists()


def ended(out: Path, number: signal.Signals, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """A process that gets a signal once it has recorded an episode."""
    before = len(list(out.glob("*.safetensors")))
    process = subprocess.Popen(command(*arguments, "--out", out), stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while len(list(out.glob("*.safetensors"))) == before:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    return subprocess.CompletedProcess([], process.returncode, None, said)


@pytest.mark.gl
def test_ended_anywhere_it_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    arguments = (*CARTPOLE, "--action-repeat", "20", "--episodes", "20", "--no-progress")
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    for number, code in ((signal.SIGKILL, -9), (signal.SIGTERM, 143)):
        done = ended(cut, number, *arguments)
        assert done.returncode == code, done.stderr
        assert b"Traceback" not in done.stderr
    assert 2 <= len(EpisodeStore(cut)) < 20
    for out, envs in ((cut, "2"), (whole, "1")):
        assert cli.main([*arguments, "--out", str(out), "--envs", envs]) == 0
    assert EpisodeStore(cut).ids() == list(range(20))
    assert contents(cut) == contents(whole)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the counting task in frames of 40 pixels, which it acts in for 100 frames at random."""
    run = tmp_path_factory.mktemp("run") / "run"
    small = ("--frames", "100", "--size", "40", "--stack", "2", "--action-repeat", "2", "--device", "cpu")
    debug = ("--preset", "debug", "--training.random-frames", "100", "--training.first-updates", "1")
    arguments = ("train", "--task", "counting", *debug, *small, "--out", str(run))
    assert cli.main(arguments) == 0
    return run


def test_a_policy_brings_its_task_and_observations(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    assert (
        cli.main(["collect", "--from", str(run), "--episodes", "1", "--control", "policy", "--out", str(out)])
        == 0
    )
    episode = EpisodeStore(out).read(0)
    assert (episode.info.task, episode.info.action_repeat) == ("counting", 2)
    assert (episode.info.behaviour, episode.frame.shape[1:]) == ("policy", (3, 40, 40))
    record = json.loads((out / "collect.json").read_text())
    assert record["policy"]["frames"] == 100
    assert record["options"]["stack"] == 2


def test_a_policy_is_not_taken_elsewhere(run: Path, tmp_path: Path, mistake: Mistake) -> None:
    policy = ("collect", "--from", run, "--episodes", "1", "--out", tmp_path / "data")
    text = mistake(*policy, "--size", "32", "--stack", "3")
    assert "frame_shape was (3, 40, 40), here it is (3, 32, 32); stack was 2, here it is 3" in text
    assert "leave --task, --size" in text
    assert "action_repeat was 2, here it is 4" in mistake(*policy, "--action-repeat", "4")
    assert not (tmp_path / "data").exists()


def test_an_explorer_is_that_of_a_curious_run(run: Path, tmp_path: Path, mistake: Mistake) -> None:
    explore = ("--behaviour", "explore", "--episodes", "1", "--no-progress")
    arguments = ("collect", *explore, "--out", tmp_path / "data")
    text = mistake(*arguments, "--from", run)
    assert f"{run} is not curious: explore needs a run with a curiosity.bonus" in text
    small = ("--frames", "100", "--size", "40", "--stack", "2", "--action-repeat", "2", "--device", "cpu")
    debug = ("--preset", "debug+curious", "--training.random-frames", "100", "--training.first-updates", "9")
    curious = str(tmp_path / "curious")
    assert cli.main(["train", "--task", "counting", *debug, *small, "--out", curious]) == 0
    mixed = ("--behaviour", "explore=1,policy=1", "--episodes", "3", "--no-progress")
    assert cli.main(["collect", "--from", curious, *mixed, "--out", str(tmp_path / "mixed")]) == 0
    episodes = [EpisodeStore(tmp_path / "mixed").read(number) for number in range(3)]
    assert {episode.info.behaviour for episode in episodes} == {"explore", "policy"}
    for episode in episodes:
        found = actions_of(Path(curious), episode)
        for name, actions in found.items():
            assert np.array_equal(episode.action, actions) == (name == episode.info.behaviour), name


def actions_of(run: Path, episode: Episode) -> dict[str, np.ndarray]:
    """What an agent does at the first observations of an episode.

    `explore`: as it was trained, and collects; `policy`: by its averages. Then each by the other's networks,
    and the explorer at the end of its schedule.
    """
    from agent import checkpoint
    from agent.controller import Controller
    from agent.curious import make_agent
    from agent.seeding import Streams

    path = checkpoint.latest(run / "checkpoints")
    assert path is not None
    state, config = checkpoint.load(path), load_config(run / "config.yaml")
    agent = make_agent(EnvSpec(**state["env_spec"]), config, torch.device("cpu"))
    agent.load_state_dict(state["agent"])
    kinds = {
        "explore": (True, 0, False),
        "policy": (False, 0, True),
        "explorer's averages": (True, 0, True),
        "policy as trained": (False, 0, False),
        "explorer at the end": (True, config.curiosity.frames, False),
    }
    found = {}
    for name, (collects, frames, averaged) in kinds.items():
        rng = Streams(1).episode_generator("policy", episode.info.episode)
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        controller = Controller(agent, 1, generator, collects=collects)
        agent.advance(frames)
        with contextlib.ExitStack() as stack:
            if averaged:
                stack.enter_context(agent.steady.acting())
            actions = []
            for time in range(len(episode.action)):
                pixels = np.concatenate([episode.frame[max(0, time - age)] for age in (1, 0)])
                actions.append(controller.act({0: Observation(pixels, episode.proprio[time])})[0])
        found[name] = np.stack(actions)
    return found


def test_another_policy_is_another_collection(run: Path, tmp_path: Path, mistake: Mistake) -> None:
    other = tmp_path / "run"
    shutil.copytree(run, other)
    policy = ("collect", "--control", "policy", "--no-progress", "--out", str(tmp_path / "data"))
    assert cli.main([*policy, "--from", str(run), "--episodes", "1"]) == 0
    assert cli.main([*policy, "--from", str(other), "--episodes", "2"]) == 0, "the same, elsewhere"
    path = max((other / "checkpoints").iterdir())
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 1
    path.write_bytes(whole)
    text = mistake(*policy, "--from", str(other), "--episodes", "3")
    assert f"the policy was that of {path}" in text.replace(str(run), str(other)) and "other contents" in text
