from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)
from torch.nn import functional as F

from agent import checkpoint
from agent.agent import Agent
from agent.controller import Controller
from agent.curious import CuriousAgent, make_agent
from agent.evaluation.inspection.analysis import (
    Seen,
    candidate_plans,
    compared,
    find,
    imagine,
    look_at,
    realised_returns,
)
from agent.evaluation.inspection.novelty import novelty
from agent.planners.base import rollout
from configs.load import dump_yaml
from configs.schema import Config
from envs.episodes import EpisodeStore
from envs.recording import Episode, EpisodeInfo
from envs.spec import EnvSpec, Observation
from scripts import cli
from tests.runs import EVAL_HEADER

T = 11
PICTURES = {
    f"inspect/{name}" for name in ("imagination", "plans", "values", "similarity", "visits", "visits-growth")
}


@pytest.fixture
def agent(env_spec: EnvSpec, tiny_config: Callable[..., Config]) -> Agent:
    torch.manual_seed(0)
    agent = Agent(env_spec, tiny_config(obs="pixels+state"), torch.device("cpu"))
    with torch.no_grad():  # outputs that start at zero would make all values alike
        for parameter in [*agent.model.parameters(), *agent.actor_critic.parameters()]:
            parameter.add_(0.3 * torch.randn_like(parameter))
    return agent


@pytest.fixture
def make_episode(env_spec: EnvSpec) -> Callable[[int], Episode]:
    def make(number: int) -> Episode:
        rng = np.random.default_rng(number)
        info = EpisodeInfo("paper", "fast", 1, lane=0, episode=number, seed=0, frames=T, versions={})
        ends = np.arange(T) == T - 1
        return Episode(
            frame=rng.integers(0, 256, (T + 1, *env_spec.frame_shape), dtype=np.uint8),
            action=rng.uniform(-1, 1, (T, 2)).astype(np.float32),
            reward=rng.uniform(0, 1, T).astype(np.float32),
            terminated=np.zeros(T, bool),
            truncated=ends,
            physics=np.zeros((T + 1, 2)),
            proprio=rng.normal(size=(T + 1, env_spec.proprio_dim)).astype(np.float32),
            info=info,
        )

    return make


def test_states_are_those_of_acting(agent: Agent, make_episode: Callable[[int], Episode]) -> None:
    """The same stacks and last actions as a controller has that lives through the episode."""
    episode = make_episode(0)
    seen = look_at(agent, episode)
    controller = Controller(agent, 1, torch.Generator())
    frames = [episode.frame[0]] * agent.env_spec.stack
    for t in range(T + 1):
        if t > 0:
            controller.took({0: episode.action[t - 1]})
            frames = [*frames[1:], episode.frame[t]]
        obs = Observation(np.concatenate(frames), episode.proprio[t])
        assert seen.value[t] == pytest.approx(controller.values({0: obs})[0], rel=1e-4)


def test_imagination_follows_the_recorded_actions(
    agent: Agent, make_episode: Callable[[int], Episode]
) -> None:
    seen = look_at(agent, make_episode(0))
    found = imagine(agent, seen, start=2, horizon=3)
    state = seen.state[2:3]
    for k in range(3):
        with torch.no_grad():
            state = agent.step(state, torch.from_numpy(seen.episode.action[None, 2 + k].copy()))[0]
        torch.testing.assert_close(found[k], compared(agent, state)[0][0], rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match=r"9 \+ 3 within 11 decisions"):
        imagine(agent, seen, start=9, horizon=3)


def test_find_ranks_the_truth(agent: Agent, make_episode: Callable[[int], Episode]) -> None:
    gallery = [look_at(agent, make_episode(number)) for number in range(3)]
    keys = [F.normalize(torch.randn(T + 1, 4, generator=torch.Generator().manual_seed(i))) for i in range(3)]
    gallery = [replace(seen, key=key) for seen, key in zip(gallery, keys, strict=True)]
    query = keys[1][4]
    exact = find(query, gallery, (1, 4))
    assert (exact.rank, exact.steps_off) == (1, 0)
    np.testing.assert_array_equal(exact.frame, gallery[1].episode.frame[4])
    other = find(query, gallery, (2, 7))
    cosine = torch.cat(keys) @ query
    assert other.rank == 1 + int((cosine > cosine[2 * (T + 1) + 7]).sum()) > 1
    assert other.steps_off is None, "the nearest is of another episode"
    assert find(query, gallery, (1, 6)).steps_off == -2


def test_a_collapsed_encoder_finds_nothing(agent: Agent, make_episode: Callable[[int], Episode]) -> None:
    generator = torch.Generator().manual_seed(0)
    key = F.normalize(torch.randn(1, 37, generator=generator))
    gallery = [replace(look_at(agent, make_episode(i)), key=key.expand(T + 1, -1)) for i in range(2)]
    for truth in ((0, 0), (0, 4), (1, T)):
        assert find(key[0], gallery, truth).rank == 2 * (T + 1)
    twin = replace(gallery[0], key=gallery[0].key.clone())
    twin.key[3:] = F.normalize(torch.randn(T - 2, 37, generator=generator))
    assert find(key[0], [twin], (0, 1)).rank == 3, "as near as two others"
    assert find(twin.key[5], [twin], (0, 5)).rank == 1


def test_candidates_are_worth_what_the_planner_thinks(
    agent: Agent, make_episode: Callable[[int], Episode]
) -> None:
    state = look_at(agent, make_episode(0)).state[5]
    found = candidate_plans(agent, state, count=6)
    horizon = agent.config.planner.horizon
    assert found.action.shape == (6, horizon, 2)
    assert np.abs(found.action).max() <= 1 < np.unique(found.predicted).size
    with torch.no_grad():
        first, predicted = rollout(agent, state[None], torch.zeros(1, horizon, 2))
    np.testing.assert_allclose(found.policy[0], first[0], rtol=1e-5)
    # each candidate is worth what its own actions lead to
    with torch.no_grad():
        for actions, expected in zip(found.action, found.predicted, strict=True):
            policy, states = agent.act, [state[None]]
            for action in actions:
                states.append(agent.step(states[-1], torch.tensor(action, dtype=torch.float32)[None])[0])
            offsets = [
                torch.tensor(action, dtype=torch.float32) - policy(each)[0]
                for action, each in zip(actions, states, strict=False)
            ]
            _, worth = rollout(agent, state[None], torch.stack(offsets)[None])
            assert float(worth) == pytest.approx(expected, rel=1e-4)
    assert np.ptp(found.predicted) > 1e-3 * abs(float(predicted)), "or they could not be told apart"


def test_realised_returns_are_discounted() -> None:
    rewards = np.array([1.0, 2.0, 4.0], np.float32)
    ended = [1 + 0.5 * (2 + 0.5 * 4), 2 + 0.5 * 4, 4, 0]
    np.testing.assert_allclose(realised_returns(rewards, 0.5, value_after=0.0), ended)
    cut = [returns + 8 * 0.5**left for returns, left in zip(ended, (3, 2, 1, 0), strict=True)]
    np.testing.assert_allclose(realised_returns(rewards, 0.5, value_after=8.0), cut)


def save_run(agent: Agent, make_episode: Callable[[int], Episode], path: Path) -> Path:
    state = {"env_spec": asdict(agent.env_spec), "progress": {"frames": 9}, "agent": agent.state_dict()}
    checkpoint.save(checkpoint.numbered(path / "checkpoints", 9), state)
    (path / "config.yaml").write_text(dump_yaml(agent.config))
    store = EpisodeStore(path / "episodes")
    for number in range(3):
        store.commit(make_episode(number))
    return path


@pytest.fixture
def run(agent: Agent, make_episode: Callable[[int], Episode], tmp_path: Path) -> Path:
    return save_run(agent, make_episode, tmp_path)


def test_the_command_draws_pictures(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", str(run), "--horizon", "2", "--episode", "1"]) == 0
    said = capsys.readouterr().out
    assert "pictures of episode 1" in said
    assert f"{3 * T} frames, 1 cells, 0.00 nats" in said, "this body never moves"
    for name in ("imagination", "plans", "values", "similarity", "visits"):
        with Image.open(run / "inspect" / f"{name}.png") as picture:
            assert min(picture.size) > 300
            assert len(picture.convert("RGB").getcolors(1 << 24) or ()) > 100, f"{name} is empty"
    assert (run / "tensorboard" / "projector_config.pbtxt").exists()
    assert list((run / "tensorboard").rglob("sprite.png"))
    assert images_of(run) == PICTURES


def images_of(run: Path) -> set[str]:
    """Names under Images in TensorBoard."""
    return set(EventAccumulator(str(run / "tensorboard"), {"images": 0}).Reload().Tags()["images"])


def test_a_comparison_inspects_what_was_not(
    agent: Agent,
    make_episode: Callable[[int], Episode],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One run of each variant; what cannot be is named, and the page is written all the same."""
    for name in ("whole/1", "whole/2", "damaged/1"):
        place = tmp_path / name
        place.mkdir(parents=True)
        save_run(agent, make_episode, place)
        config = yaml.safe_load((place / "config.yaml").read_text()) | {"seed": int(name[-1])}
        (place / "config.yaml").write_text(yaml.safe_dump(config))
        (place / "eval.csv").write_text(f"{EVAL_HEADER}\n9,1,1.0,5.0,0,1\n")
    next((tmp_path / "damaged" / "1" / "checkpoints").iterdir()).write_bytes(b"nonsense")
    inputs = [f"{label}={tmp_path / label}" for label in ("whole", "damaged")]
    command = ["curves", *inputs, "--resamples", "10", "--out", str(tmp_path / "out")]
    task = agent.config.task
    assert cli.main(command) == 0
    said = capsys.readouterr().err
    assert f"no pictures of what {task}, damaged; {task}, whole imagine: --inspect beside" in said
    assert not (tmp_path / "whole" / "1" / "inspect").exists()
    assert cli.main([*command, "--inspect"]) == 0
    said = capsys.readouterr().err
    assert f"no pictures of what {task}, damaged imagine" in said
    assert "nearfar: damaged/1: checkpoint damaged/1/checkpoints/" in said
    assert "; it is not inspected" in said
    assert not (tmp_path / "whole" / "2" / "inspect").exists()
    found = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert found["imaginations"] == [f"{task}, whole, seed 1, 9 frames, episode 2"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count('alt="Recorded frames beside') == 1
    assert str(tmp_path) not in page
    drawn = (tmp_path / "whole" / "1" / "inspect" / "imagination.png").stat().st_mtime_ns
    assert cli.main([*command, "--inspect"]) == 0
    assert (tmp_path / "whole" / "1" / "inspect" / "imagination.png").stat().st_mtime_ns == drawn
    assert (tmp_path / "out" / "report.html").read_text() == page


@pytest.fixture
def curious(env_spec: EnvSpec, tiny_config: Callable[..., Config]) -> CuriousAgent:
    torch.manual_seed(0)
    options = {"bonus": "contrastive", "memory": 40}
    agent = make_agent(env_spec, tiny_config(obs="pixels+state", curiosity=options), torch.device("cpu"))
    assert isinstance(agent, CuriousAgent)
    return agent


def test_novelty_is_what_memory_has_no_match_for(
    curious: CuriousAgent, make_episode: Callable[[int], Episode]
) -> None:
    """Of its own episode only what lies further away counts; by the networks that collected."""
    episode = make_episode(0)
    key = look_at(curious, episode).key
    with torch.no_grad():  # what acts in evaluation is something else
        for parameter in curious.steady.averages["encoder"].parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    times = torch.arange(T + 1)
    curious.explorer.bonus.remember(key, torch.zeros_like(times), times)
    others = F.normalize(torch.randn(40 - len(key), key.shape[1]), dim=1)
    curious.explorer.bonus.remember(others, torch.full((len(others),), 5), torch.arange(len(others)))
    curious.steady.swap()  # as `load_agent` returns it
    expected = []
    for t in range(T):
        far = [key[k] for k in range(T + 1) if abs(k - (t + 1)) > curious.config.world_model.near_window]
        matched = sum(np.exp(float(key[t + 1] @ each) / 0.1) for each in [*far, *others])
        expected.append(np.log(1 + np.exp(10) / matched))
    np.testing.assert_allclose(novelty(curious, episode), expected, rtol=1e-3)


def test_pictures_of_what_is_novel(
    curious: CuriousAgent, make_episode: Callable[[int], Episode], tmp_path: Path
) -> None:
    run = save_run(curious, make_episode, tmp_path / "curious")
    assert cli.main(["inspect", str(run), "--horizon", "3"]) == 0
    for name in ("bonus.png", "novelty.png"):
        with Image.open(run / "inspect" / name) as image:
            assert min(image.size) > 100
    assert images_of(run) == PICTURES | {"inspect/bonus", "inspect/novelty"}


def test_mistakes_are_named(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for flags, message in (
        (["--episode", "7"], "no episode 7 there: it holds 0 to 2"),
        (["--horizon", "11"], "--horizon 11 is too long for episode 2, which has 11 decisions"),
    ):
        assert cli.main(["inspect", str(run), *flags]) == 2
        assert message in capsys.readouterr().err
    assert cli.main(["inspect", str(tmp_path / "absent")]) == 2
    assert "holds no checkpoint" in capsys.readouterr().err


def test_a_seen_episode_fits(agent: Agent, make_episode: Callable[[int], Episode]) -> None:
    seen: Seen = look_at(agent, make_episode(3))
    assert len(seen.state) == len(seen.key) == len(seen.value) == T + 1
    torch.testing.assert_close(seen.key.norm(dim=1), torch.ones(T + 1))


def test_pictures_without_frames(
    run: Path, make_episode: Callable[[int], Episode], env_spec: EnvSpec, tiny_config: Callable[..., Config]
) -> None:
    """Of a curious agent that sees no pixels: what can be said without them is."""
    torch.manual_seed(0)
    config = tiny_config(obs="state", curiosity={"bonus": "contrastive", "memory": 40})
    blind = make_agent(replace(env_spec, frame_shape=(3, 0, 0)), config, torch.device("cpu"))
    (run / "config.yaml").write_text(dump_yaml(blind.config))
    state = {"env_spec": asdict(blind.env_spec), "progress": {"frames": 9}, "agent": blind.state_dict()}
    checkpoint.save(checkpoint.numbered(run / "checkpoints", 9), state)
    store = EpisodeStore(run / "episodes")
    store.drop_after(0)
    for number in range(2):
        episode = make_episode(number)
        store.commit(replace(episode, frame=episode.frame[..., :0, :0], physics=episode.physics[:, :0]))
    assert cli.main(["inspect", str(run), "--horizon", "2"]) == 0
    assert not list((run / "inspect").glob("visits*")), "there are no physics states either"
    assert not (run / "inspect" / "novelty.png").exists()
    for name in ("imagination", "plans", "values", "similarity", "bonus"):
        with Image.open(run / "inspect" / f"{name}.png") as picture:
            assert len(picture.convert("RGB").getcolors(1 << 24) or ()) > 20, f"{name} is empty"
    assert (run / "tensorboard" / "projector_config.pbtxt").exists()
    assert not list((run / "tensorboard").rglob("sprite.png"))
