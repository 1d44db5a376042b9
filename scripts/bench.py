"""`nearfar bench`: how fast each part of a training step is on this machine."""

from __future__ import annotations

import json
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro

from configs.schema import CarriedReplay, Config, EncoderMode, EvaluationOptions, LoggingOptions
from scripts.costs import Costs, memory_mb
from scripts.options import parse_config
from scripts.wiring import (
    check_task,
    choose_backend,
    configure_torch,
    make_task_pool,
    resolve_device,
)

if TYPE_CHECKING:
    import torch

    from agent.agent import Agent
    from agent.controller import Controller
    from agent.replay import Replay
    from envs.spec import Observation, Pool

REPEATS = 20
WARM_UP = 5  # more than a captured update takes to be captured
FILL_STEPS = 300
POOL_SIZES = (1, 2, 4, 8)


class BenchOptions(Config):
    """Times of the parts of a training step, with the options of `nearfar train`."""

    as_json: Annotated[bool, tyro.conf.arg(name="json"), tyro.conf.FlagCreatePairsOff] = False
    """Print JSON alone."""
    pool: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Measure 1, 2, 4 and 8 environments side by side as well, which takes a minute."""
    # No run is made, so its length, directory, start, evaluations and records cannot be chosen.
    frames: Annotated[int, tyro.conf.Fixed, tyro.conf.Suppress] = Config().frames
    out: Annotated[None, tyro.conf.Fixed, tyro.conf.Suppress] = None
    encoder: Annotated[None, tyro.conf.Fixed, tyro.conf.Suppress] = None
    encoder_mode: Annotated[EncoderMode, tyro.conf.Fixed, tyro.conf.Suppress] = Config().encoder_mode
    from_run: Annotated[None, tyro.conf.Fixed, tyro.conf.Suppress] = None
    from_replay: Annotated[CarriedReplay, tyro.conf.Fixed, tyro.conf.Suppress] = Config().from_replay
    evaluation: Annotated[EvaluationOptions, tyro.conf.Fixed, tyro.conf.Suppress] = EvaluationOptions()
    logging: Annotated[LoggingOptions, tyro.conf.Fixed, tyro.conf.Suppress] = LoggingOptions()


def main(arguments: Sequence[str]) -> int:
    """Measure; see `nearfar bench --help`."""
    config = parse_config(BenchOptions, "nearfar bench", arguments)
    device = resolve_device(config.device)
    configure_torch(config.training)

    backend = choose_backend(needed=config.sees_pixels)
    result: dict[str, Any] = {
        "device": str(device),
        "preset": config.preset,
        "obs": config.obs,
        "renderer": backend and backend.renderer,
    }
    result |= measure(config, device)
    if config.pool:
        result["pool_steps_per_s"] = measure_pool(config)
    print(json.dumps(result) if config.as_json else _as_text(result))
    return 0


def measure(config: Config, device: torch.device) -> dict[str, Any]:
    """Fill a small replay with random episodes, then time each part by itself.

    Returns:
        Medians: frames drawn (None where none are) and decisions of the environment a second; milliseconds
        for sampling, augmenting, an update (without sampling) and acting (one decision of each environment,
        as training does at its start); updates a second with sampling; the shares of a training step, as
        `Costs.shares`; peak memory in MiB, of this process and of the device; what the peak consists of
        where the networks are, as `memory_mb`, and shares of it.
    """
    import torch

    from agent.curious import make_agent
    from agent.run_parts import make_replay

    with make_task_pool(config, config.envs) as pool:
        check_task(config, pool.env_spec)
        agent = make_agent(pool.env_spec, config, device)
        replay = make_replay(config, pool, device)
        step_s, obs = fill(pool, replay)
    costs = _costs(config, agent, replay, step_s, obs)
    rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    cuda_mb = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None
    memory = memory_mb(agent, replay, rss_mb if cuda_mb is None else cuda_mb)
    return {
        "env_steps_per_s": config.envs / costs.step,
        "render_fps": 1 / costs.draw if costs.draw else None,
        "sample_ms": 1e3 * costs.sample,
        "augment_ms": 1e3 * costs.augment,
        "update_ms": 1e3 * costs.update,
        "act_ms": 1e3 * costs.act,
        "updates_per_s": 1 / (costs.sample + costs.update),
        "shares": costs.shares(config.training.updates_per_step * config.envs),
        "threads": torch.get_num_threads(),
        "batch_size": config.training.batch_size,
        "horizon": config.world_model.horizon,
        "envs": config.envs,
        "peak_rss_mb": rss_mb,
        "peak_cuda_mb": cuda_mb,
        "memory_mb": memory,
        "memory_shares": {name: mib / sum(memory.values()) for name, mib in memory.items()},
    }


def _costs(config: Config, agent: Agent, replay: Replay, step_s: float, obs: dict[int, Observation]) -> Costs:
    import torch

    from agent.update import make_update

    device = agent.device
    generator = torch.Generator(device).manual_seed(0)
    rng = np.random.default_rng(0)
    size = config.training.batch_size
    batch = replay.sample(size, rng).to(device)
    controller = make_collector(agent, generator)
    sample_s = _median(lambda: replay.sample(size, rng).to(device), device)
    augment_s = _median(lambda: agent.model.views(batch, generator), device)
    update = make_update(agent, generator)
    update_s = _median(lambda: update(batch), device)
    act_s = _median(lambda: controller.act(obs, config.training.exploration_std), device)
    return Costs(step_s, _draw_s(config), sample_s, augment_s, update_s, act_s)


def make_collector(agent: Agent, generator: torch.Generator) -> Controller:
    """What acts at the start of a run, where a curious agent explores."""
    from agent.controller import Controller

    agent.advance(0)
    controller = Controller(agent, agent.config.envs, generator, collects=True)
    for env in range(agent.config.envs):
        controller.reset(env)
    return controller


def measure_pool(config: Config) -> dict[str, float]:
    """Decisions a second of all environments together, by how many `--envs` there are."""
    import torch

    from agent.run_parts import make_replay

    rates = {}
    for count in POOL_SIZES:
        with make_task_pool(config, count) as pool:
            step_s, _ = fill(pool, make_replay(config, pool, torch.device("cpu")))
        rates[str(count)] = count / step_s
    return rates


def fill(pool: Pool, replay: Replay) -> tuple[float, dict[int, Observation]]:
    """Record random decisions; returns seconds a decision of all environments, and the last observations."""
    from envs.spec import Transition

    rng = np.random.default_rng(0)
    obs: dict[int, Observation] = {}
    idle = set(range(pool.count))
    times: list[float] = []
    for number in range(FILL_STEPS):
        started = pool.reset({lane: pool.count * number + lane for lane in idle})
        for lane, (obs[lane], _) in started.items():
            replay.start(lane, obs[lane])
        actions = {lane: rng.uniform(-1, 1, pool.env_spec.action_dim).astype(np.float32) for lane in obs}
        start = time.perf_counter()
        steps = pool.step(actions)
        times.append(time.perf_counter() - start)
        for lane, step in steps.items():
            obs[lane] = step.obs
            replay.add(lane, Transition.of(actions[lane], step))
        idle = {lane for lane, step in steps.items() if step.terminated or step.truncated}
    return statistics.median(times), obs


def _draw_s(config: Config) -> float:
    """Seconds that a frame takes in one process, median; the physics goes on in between, and is not timed."""
    from envs import make_env

    if not config.sees_pixels:
        return 0.0
    env: Any = make_env(
        config.task,
        size=config.size,
        look=config.look,
        distract=config.distract,
        action_repeat=1,
        imports=config.imports,
    )
    env.reset(seed=0)
    action = np.zeros_like(env.action_space.sample())
    times: list[float] = []
    for _ in range(WARM_UP + REPEATS):
        *_, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()
        start = time.perf_counter()
        env.frame()
        times.append(time.perf_counter() - start)
    env.close()
    return statistics.median(times[WARM_UP:])


def _median(function: Callable[[], Any], device: torch.device) -> float:
    """Median seconds of a call, after a few to warm up; waits for the device."""
    import torch

    times = []
    for _ in range(WARM_UP + REPEATS):
        start = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[WARM_UP:])


def _as_text(result: dict[str, Any]) -> str:
    rows = {name: value for name, value in result.items() if not isinstance(value, dict)}
    rows |= {f"share of {name}": value for name, value in result["shares"].items()}
    shares = result.get("memory_shares", {})
    rows |= {f"memory_mb of {name}": value for name, value in result.get("memory_mb", {}).items()}
    rows |= {f"memory share of {name}": value for name, value in shares.items()}
    pools = result.get("pool_steps_per_s", {})
    rows |= {f"steps_per_s of {count} environments": value for count, value in pools.items()}
    width = max(map(len, rows))
    return "\n".join(
        f"{name:<{width}}  {value:.3g}" if isinstance(value, float) else f"{name:<{width}}  {value}"
        for name, value in rows.items()
    )
