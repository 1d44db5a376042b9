"""What a CUDA device must do as a CPU does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from agent import checkpoint
from agent.agent import Agent
from agent.controller import Controller
from agent.curious import CuriousAgent
from agent.curious import make_agent as make_any_agent
from agent.graphed import WARM_UP, GraphedUpdate
from agent.loop import Loop
from agent.replay import Replay
from agent.seeding import Streams
from configs.control import ControlName
from configs.curiosity import BonusName
from configs.schema import Config
from configs.views import ViewOptions
from envs.counting import CountingEnv
from envs.spec import EnvSpec, Observation, Transition
from envs.vector import SerialPool
from tests.objectives import EVERY_OBJECTIVE
from tests.points import Points, config_of
from tests.points import env_spec as env_spec_of_points
from world_model.augment import draw_shifts, shift
from world_model.batch import Batch
from world_model.pretrain.parallel import Alone
from world_model.pretrain.registry import make_method
from world_model.pretrain.source import Source
from world_model.pretrain.trainer import Trainer
from world_model.pretrain.views import KeyedViews
from world_model.views.parameters import draw_parameters
from world_model.views.pipeline import apply_view
from world_model.views.randomness import keyed_uniforms

pytestmark = pytest.mark.gpu

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
# nothing is drawn, so that both devices compute the same numbers
BONUSES = [name for name in get_args(BonusName) if name != "none"]
QUIET = {"target_noise": 0.0, "imagination_std": 0.0}

MakeAgent = Callable[..., Agent]


@pytest.fixture
def make_agent(env_spec: EnvSpec, tiny_config: Callable[..., Config]) -> MakeAgent:
    def make(
        device: torch.device,
        *,
        precision: str = "float32",
        world_model: dict[str, Any] | None = None,
        **options: Any,
    ) -> Agent:
        model = {"encoder": {"shift_padding": 0, "precision": precision}, **(world_model or {})}
        torch.manual_seed(0)
        config = tiny_config(world_model=model, actor_critic=QUIET, **options)
        agent = make_any_agent(env_spec, config, device)
        agent.advance(0)
        return agent

    return make


@pytest.fixture
def batches(env_spec: EnvSpec, make_batch: Callable[..., Batch]) -> list[Batch]:
    return [make_batch(env_spec, seed=seed) for seed in range(WARM_UP + 3)]


def train(agent: Agent, batches: list[Batch]) -> list[dict[str, float]]:
    generator = torch.Generator(agent.device).manual_seed(0)
    return [scalars(agent.update(batch.to(agent.device), generator)) for batch in batches]


def scalars(metrics: dict[str, Tensor]) -> dict[str, float]:
    return {name: value.item() for name, value in metrics.items()}


def assert_close(
    found: list[dict[str, float]], expected: list[dict[str, float]], *, rel: float, abs: float
) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=rel, abs=abs)


def test_updates_equal_those_of_a_cpu(make_agent: MakeAgent, batches: list[Batch]) -> None:
    expected = train(make_agent(CPU), batches[:3])
    assert_close(train(make_agent(CUDA), batches[:3]), expected, rel=2e-3, abs=1e-4)


def test_bfloat16_stays_close_to_float32(make_agent: MakeAgent, batches: list[Batch]) -> None:
    expected = train(make_agent(CPU), batches[:3])
    found = train(make_agent(CUDA, precision="bfloat16"), batches[:3])
    assert_close(found, expected, rel=0.05, abs=0.02)


@pytest.mark.parametrize("bonus", BONUSES)
def test_curious_updates_equal_those_of_a_cpu_captured_or_not(
    bonus: str, make_agent: MakeAgent, batches: list[Batch]
) -> None:
    """Bonuses, their memory and normalisation, and what learns from them."""
    curiosity = {"bonus": bonus, "memory": 30}
    expected = train(make_agent(CPU, curiosity=curiosity), batches)
    assert_close(train(make_agent(CUDA, curiosity=curiosity), batches), expected, rel=5e-3, abs=1e-3)
    agent = make_agent(CUDA, curiosity=curiosity, training={"cuda_graph": True})
    update = GraphedUpdate(agent, torch.Generator(CUDA).manual_seed(0))
    found = [scalars(update(batch.to(CUDA))) for batch in batches]
    assert_close(found, expected, rel=5e-3, abs=1e-3)
    assert isinstance(agent, CuriousAgent)
    assert bool(agent.explorer.was_rewarded)


@pytest.mark.parametrize(
    ("precision", "world_model"),
    [("bfloat16", {}), *(("float32", options) for options in EVERY_OBJECTIVE)],
    ids=str,
)
def test_captured_updates_equal_eager_ones(
    precision: str, world_model: dict[str, Any], make_agent: MakeAgent, batches: list[Batch]
) -> None:
    """Also where imagination begins on the way, which is a second graph."""
    drawn = [(batch.to(CUDA), imagine) for imagine in (False, True) for batch in batches]
    eager = make_agent(CUDA, precision=precision, world_model=world_model)
    generator = torch.Generator(CUDA).manual_seed(0)
    agent = make_agent(CUDA, precision=precision, world_model=world_model, training={"cuda_graph": True})
    assert agent.uses_cuda_graph
    update = GraphedUpdate(agent, torch.Generator(CUDA).manual_seed(0))
    expected, found = [], []
    for batch, imagine in drawn:
        expected.append(scalars(eager.update(batch, generator, imagine=imagine)))
        found.append(scalars(update(batch, imagine=imagine)))
    assert_close(found, expected, rel=1e-3 if precision == "float32" else 0.05, abs=1e-3)


def test_an_encoder_thaws_under_captured_updates(make_agent: MakeAgent, batches: list[Batch]) -> None:
    """Updates that leave it alone are a graph of their own."""
    eager, agent = make_agent(CUDA), make_agent(CUDA, training={"cuda_graph": True})
    generator = torch.Generator(CUDA).manual_seed(0)
    update = GraphedUpdate(agent, torch.Generator(CUDA).manual_seed(0))
    start = agent.model.encoder.linear.weight.detach().clone()
    expected, found = [], []
    for learns in (False, True):
        for batch in batches:
            eager.learns_encoder = agent.learns_encoder = learns
            expected.append(scalars(eager.update(batch.to(CUDA), generator)))
            found.append(scalars(update(batch.to(CUDA))))
        assert torch.equal(agent.model.encoder.linear.weight, start) != learns
    assert_close(found, expected, rel=1e-3, abs=1e-3)


def test_captured_updates_draw_anew_each_time(
    env_spec: EnvSpec, tiny_config: Callable[..., Config], batches: list[Batch]
) -> None:
    config = tiny_config(
        training={"cuda_graph": True, "learning_rate": 1e-30, "encoder_learning_rate": 1e-30}
    )
    generator = torch.Generator(CUDA).manual_seed(0)
    update = GraphedUpdate(Agent(env_spec, config, CUDA), generator)
    same = [update(batches[0].to(CUDA))["loss/temporal"].item() for _ in range(WARM_UP + 4)]
    assert len(set(same)) == len(same), "only the random shifts differ"


def test_captured_shape_is_fixed(make_agent: MakeAgent, batches: list[Batch]) -> None:
    update = GraphedUpdate(make_agent(CUDA, training={"cuda_graph": True}), torch.Generator(CUDA))
    for batch in batches:
        update(batch.to(CUDA))
    half = Batch(**{name: value[:4] for name, value in vars(batches[0]).items()})
    with pytest.raises(ValueError, match="captured"):
        update(half.to(CUDA))


def test_state_moves_between_devices(
    make_agent: MakeAgent, batches: list[Batch], env_spec: EnvSpec, tmp_path: Path
) -> None:
    trained = make_agent(CUDA)
    train(trained, batches)
    checkpoint.save(tmp_path / "state", trained.state_dict())
    agents = make_agent(CPU), make_agent(CUDA)
    for agent in agents:
        agent.load_state_dict(checkpoint.load(tmp_path / "state"))
    assert_close(train(agents[1], batches[:1]), train(agents[0], batches[:1]), rel=2e-3, abs=1e-4)
    obs = observations(env_spec, 1)
    actions = [
        Controller(agent, 1, torch.Generator(agent.device), control="policy").act(obs)[0] for agent in agents
    ]
    np.testing.assert_allclose(actions[0], actions[1], atol=1e-3)


@pytest.mark.parametrize("control", get_args(ControlName))
def test_every_planner_acts(control: str, make_agent: MakeAgent, env_spec: EnvSpec) -> None:
    controller = Controller(make_agent(CUDA), 2, torch.Generator(CUDA).manual_seed(0), control=control)
    obs = observations(env_spec, 2)
    for _ in range(2):
        actions = controller.act(obs, noise_std=0.1)
        assert all(np.isfinite(action).all() for action in actions.values())


def observations(env_spec: EnvSpec, count: int) -> dict[int, Observation]:
    rng = np.random.default_rng(0)
    return {
        index: Observation(
            rng.integers(0, 256, env_spec.obs_shape, dtype=np.uint8),
            rng.normal(size=env_spec.proprio_dim).astype(np.float32),
        )
        for index in range(count)
    }


def test_shift_equals_that_of_a_cpu() -> None:
    images = torch.randint(0, 256, (64, 5, 3, 32, 32), dtype=torch.uint8)
    shifts = draw_shifts(64, 4, torch.Generator(CUDA).manual_seed(0))
    assert torch.equal(shift(images.to(CUDA), shifts).cpu(), shift(images, shifts.cpu()))


def test_replay_on_the_device_equals_that_in_ram() -> None:
    env = CountingEnv(length=12, size=32)
    replays = [
        Replay(env.env_spec, capacity=40, lanes=1, horizon=3, pair_share=0.5, min_gap=3, device=device)
        for device in (CPU, CUDA)
    ]
    rng = np.random.default_rng(0)
    for episode in range(5):
        pixels, info = env.reset(seed=episode)
        for replay in replays:
            replay.start(0, Observation(pixels, info["proprio"]))
        for _ in range(12):
            action = rng.uniform(-1, 1, 2).astype(np.float32)
            pixels, reward, terminated, truncated, info = env.step(action)
            seen = pixels[-3:], info["proprio"]
            transition = Transition(*seen, action, reward, terminated, truncated, info["physics"], 1)
            for replay in replays:
                replay.add(0, transition)
    in_ram, on_device = (replay.sample(16, np.random.default_rng(1)) for replay in replays)
    for name, value in vars(on_device).items():
        assert value.device == CUDA
        assert torch.equal(value.cpu(), vars(in_ram)[name]), name


@pytest.mark.parametrize("name", ["simclr", "moco", "temporal"])
def test_pretraining_in_bfloat16_learns_what_float32_does_on_a_cpu(name: str) -> None:
    """Losses of two updates, and where the encoder goes: mostly the same way."""
    (on_cpu, way), (on_cuda, way_there) = (
        two_updates(name, device, precision) for device, precision in ((CPU, "float32"), (CUDA, "bfloat16"))
    )
    assert on_cuda == pytest.approx(on_cpu, rel=0.03)
    assert float(F.cosine_similarity(way_there, way, dim=0)) > 0.6
    assert float(way_there.norm()) == pytest.approx(float(way.norm()), rel=0.1)


def two_updates(name: str, device: torch.device, precision: str) -> tuple[list[float], Tensor]:
    """The loss of each, and how far each weight of the encoder has moved."""
    model = {"latent_dim": 32, "horizon": 3, "encoder": {"channels": 8, "precision": precision}}
    config = config_of(name, model=model, updates=2, batch={"size": 24})
    torch.manual_seed(0)
    options = config.model.world_model()
    method = make_method(config.method, env_spec_of_points(), config.obs, options, config.pairs)
    method.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its types
    before = [parameter.detach().clone() for parameter in method.encoder.parameters()]
    trainer, source = Trainer(method, config, Alone()), Source(Points(), config)
    losses: list[float] = []
    for update in range(2):
        samples = source.draw(update).to(device)
        views = KeyedViews(config.views, config.model.encoder, config.seed, update)
        values, rows = trainer.step(samples, views)
        assert all(value.isfinite() for value in trainer.diagnose(samples, rows).values())
        losses.append(sum(float(value) for key, value in values.items() if key.startswith("loss/")))
    moved = zip(method.encoder.parameters(), before, strict=True)
    return losses, torch.cat([(after.detach() - start).flatten().cpu() for after, start in moved])


def test_views_are_those_of_the_cpu() -> None:
    options = ViewOptions(
        resized_crop=0.7, flip=0.5, jitter=0.8, grey=0.4, blur=0.6, solarise=0.3, cutout=0.5
    )
    stacks = torch.randint(0, 256, (40, 9, 64, 64), dtype=torch.uint8)
    found = []
    for device in (CPU, CUDA):
        uniforms = keyed_uniforms(torch.arange(40, device=device), seed=2**40, update=3, view=1)
        found.append((uniforms, apply_view(stacks.to(device), draw_parameters(options, uniforms, (64, 64)))))
    (here, on_cpu), (there, on_cuda) = found
    assert there.device == on_cuda.device == CUDA
    assert torch.equal(there.cpu(), here)
    # solarising may turn a value that rounding has put on the other side of the middle
    is_close = torch.isclose(on_cuda.cpu(), on_cpu, rtol=0, atol=0.01)
    assert float(is_close.float().mean()) > 0.9999


class NoStop:
    requested = False


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("cuda_graph", [False, True])
def test_training_runs_and_goes_on(
    on_device: bool, cuda_graph: bool, tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    def run(frames: int) -> Loop:
        config = tiny_config(
            frames=frames,
            world_model={"encoder": {"precision": "bfloat16"}},
            replay={"on_device": on_device},
            training={
                "random_frames": 20,
                "first_updates": 3,
                "cuda_graph": cuda_graph,
            },
            evaluation={"episodes": 1, "videos": False},
            logging={"every_updates": 10},
        )
        pool, eval_pool = (SerialPool(lambda i: CountingEnv(length=10, size=32), 1) for _ in range(2))
        with Loop(config, tmp_path, CUDA, pool, eval_pool, Streams(1)) as loop:
            loop.announce({})
            loop.run(NoStop())
        return loop

    loop = run(60)
    assert loop.progress.updates == 43
    loop = run(90)
    assert loop.progress.updates == 73
    finite: list[Tensor] = [p.isfinite().all() for p in loop.agent.model.parameters()]
    assert all(finite)
