"""`nearfar collect`: records episodes, or lets an interrupted collection go on."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from pydantic import model_validator

from configs.behaviours import AGENTS, BehaviourText, parse_behaviours
from configs.control import ControlName
from configs.load import ConfigError, load_config
from configs.options import NonNegativeFloat, Positive, PositiveFloat
from configs.schema import EnvironmentOptions
from envs.registry import needs_backend
from scripts.collection_record import changes_since, check_continuable, save_record
from scripts.options import checked_task, parse_flags
from scripts.run_directory import COLLECTION_FILE, held_directory, note_changes
from scripts.train import StopFlag
from scripts.wiring import choose_backend, make_environments, resolve_device

if TYPE_CHECKING:
    from agent.agent import Agent
    from agent.behaviour import Policy
    from envs.episodes import EpisodeStore
    from envs.rendering import Backend
    from envs.spec import EnvSpec, Pool


class CollectOptions(EnvironmentOptions):
    """Episodes without learning. Killed and started again, it goes on, and the result is the same."""

    behaviour: BehaviourText = "random"
    """random, smooth-random, policy, explore, or a mixture by shares of episodes: random=0.5,policy=0.5."""
    episodes: Positive | None = None
    """Episodes to record, with those that are there."""
    frames: Positive | None = None
    """Or: as many episodes as it takes to have so many frames (before action repeat)."""
    out: Path | None = None
    """Directory of the episodes; default data/<task>/<behaviour>/seed-<seed>."""
    source: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """Run or checkpoint of the agent; task and observations are its own, unless they are given."""
    noise: NonNegativeFloat = 0.0
    """Deviation of Gaussian noise on the agent's actions (actions range over [-1, 1])."""
    control: ControlName | None = None
    """How the agent's actions are chosen; unset: as in its run."""
    correlation_frames: PositiveFloat = 50.0
    """Correlation time of smooth-random actions, in frames."""
    progress: bool = True
    """Draw a progress bar."""

    @model_validator(mode="after")
    def _options_fit_together(self) -> CollectOptions:
        if (self.episodes is None) == (self.frames is None):
            raise ValueError("say how much to record: either --episodes or --frames")
        if acting := AGENTS & parse_behaviours(self.behaviour).keys():
            if self.source is None:
                raise ValueError(f"{sorted(acting)[0]} needs a trained agent: give its run as --from RUN")
            return self
        chosen = {"--from": self.source is not None, "--noise": self.noise > 0, "--control": self.control}
        if superfluous := [flag for flag, is_chosen in chosen.items() if is_chosen]:
            raise ValueError(
                f"{' and '.join(superfluous)}: only for the behaviours policy and explore, "
                f"which have no share of {self.behaviour}"
            )
        return self


def main(arguments: Sequence[str]) -> int:
    """Collect; see `nearfar collect --help`.

    Returns:
        0, or 130 or 143 where a signal ended the collection after saving.
    """
    options = _parse(arguments)
    policies, origin = _policies(options)
    backend = choose_backend(needed=needs_backend(options.task, options.size))
    with make_environments(options, options.envs, size=options.size) as pool:
        for policy in policies.values():
            _check_fits(policy, pool.env_spec, str(options.source))
        out = options.out or Path("data", options.task, options.behaviour, f"seed-{options.seed}")
        with held_directory(out, COLLECTION_FILE), StopFlag() as stop:
            is_done = _collect(options, out, pool, policies, _record(options, pool, origin, backend), stop)
    if not is_done:
        print("saved; the same command goes on from the last episode that was complete")
        return 128 + stop.signal_number
    return 0


def _parse(arguments: Sequence[str]) -> CollectOptions:
    """The flags; what they leave open is as in the run of `--from`, if there is one."""
    flags = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    flags.add_argument("--from", dest="run", type=Path)
    default: Any = tyro.MISSING_NONPROP
    try:
        run = flags.parse_known_args(arguments)[0].run
    except argparse.ArgumentError:  # a flag without its value: tyro explains it
        run = None
    if run is not None:
        from agent.loading import find_checkpoint

        config = load_config(find_checkpoint(run).parent.parent / "config.yaml")
        names = set(EnvironmentOptions.model_fields) - {"seed", "device", "envs"}
        like_run = {name: getattr(config, name) for name in names}
        # No length is given yet, so it would not be valid.
        default = CollectOptions.model_construct(**like_run, behaviour="policy", source=run)
    options = parse_flags(CollectOptions, "nearfar collect", arguments, default)
    return options.model_copy(update={"task": checked_task(options)})


def _policies(options: CollectOptions) -> tuple[dict[str, Policy], dict[str, Any] | None]:
    """The agents that act, by their behaviours, and what identifies them: they are of one checkpoint.

    Each has networks of its own: the policy the averages, the explorer those that it collected with.
    """
    if options.source is None:
        return {}, None
    import hashlib

    from agent.behaviour import Policy
    from agent.loading import find_checkpoint, load_agent

    path = find_checkpoint(options.source)
    device = str(resolve_device(options.device))
    policies: dict[str, Policy] = {}
    frames = 0
    for name in sorted(AGENTS & parse_behaviours(options.behaviour).keys()):
        loaded = load_agent(path, device=device, averaged=name != "explore")
        if name == "explore":
            _let_explore(loaded.agent, str(options.source))
        policies[name] = Policy(loaded.agent, options.noise, options.control)
        frames = loaded.frames
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return policies, {"checkpoint": str(path), "frames": frames, "sha256": digest}


def _let_explore(agent: Agent, source: str) -> None:
    """Give the bonus the largest weight that it had.

    Raises:
        ConfigError: the agent is not curious.
    """
    curiosity = agent.config.curiosity
    if curiosity.bonus == "none":
        raise ConfigError(f"{source} is not curious: explore needs a run with a curiosity.bonus")
    agent.advance(0 if curiosity.weight >= curiosity.final_weight else curiosity.frames)


def _check_fits(policy: Policy, env_spec: EnvSpec, source: str) -> None:
    """Find what an agent was not trained for.

    Raises:
        ConfigError: it was trained for another task, or other observations.
    """
    trained, config = policy.agent.env_spec, policy.agent.config
    names = ["task", "action_repeat", "action_dim"]
    names += ["frame_shape", "stack", "look"] if config.sees_pixels else []
    names += ["proprio_dim"] if config.sees_proprio else []
    pairs = {name: (getattr(trained, name), getattr(env_spec, name)) for name in names}
    if changes := [f"{name} was {a}, here it is {b}" for name, (a, b) in pairs.items() if a != b]:
        raise ConfigError(
            f"the agent of {source} was trained for something else ({'; '.join(changes)}): leave --task, "
            "--size, --stack, --look and --action-repeat out, then they are as in its run"
        )


def _record(
    options: CollectOptions, pool: Pool, origin: dict[str, Any] | None, backend: Backend | None
) -> dict[str, Any]:
    """What `collect.json` holds: all that the episodes depend on, and how many there are to be."""
    from scripts.machine import versions

    free = {"episodes", "frames", "out", "source", "progress", "envs", "device"}
    used = options.model_dump(mode="json", exclude=free)
    return {
        "options": used | {"action_repeat": pool.env_spec.action_repeat},
        "policy": origin,
        "goal": {"episodes": options.episodes, "frames": options.frames},
        "machine": versions() | {"renderer": backend and backend.renderer},
    }


def _collect(
    options: CollectOptions,
    out: Path,
    pool: Pool,
    policies: Mapping[str, Policy],
    record: dict[str, Any],
    stop: StopFlag,
) -> bool:
    """Hand everything to the collector; returns whether it reached its goal."""
    from agent.behaviour import Behaviours
    from agent.collecting import Collector, Goal
    from agent.seeding import Streams
    from envs.episodes import EpisodeStore

    store = EpisodeStore(out)
    if len(store):
        check_continuable(out, record)
        note_changes("this collection", changes_since(out, record))
    streams = Streams(options.seed)
    behaviours = Behaviours(
        parse_behaviours(options.behaviour),
        streams,
        pool.env_spec,
        correlation_frames=options.correlation_frames,
        policy=policies.get("policy"),
        explorer=policies.get("explore"),
    )
    versions = {name: str(version) for name, version in record["machine"].items() if name != "renderer"}
    collector = Collector(pool, store, behaviours, streams, versions=versions)
    save_record(out, record)
    goal = Goal(options.episodes, options.frames)
    is_done = collector.run(goal, stop, progress=options.progress)
    print(_summary(options.task, store, collector.frames))
    return is_done


def _summary(task: str, store: EpisodeStore, frames: int) -> str:
    """What there is now, by behaviour."""
    returns: dict[str, list[float]] = {}
    for identifier in store.ids():
        episode = store.read(identifier)
        returns.setdefault(episode.info.behaviour, []).append(episode.episode_return)
    lines = [f"{task}: {len(store):,} episodes, {frames:,} frames in {store.path}"]
    lines += [
        f"  {name:14}{len(values):6,} episodes   return {statistics.fmean(values):.1f} "
        f"± {statistics.pstdev(values):.1f}"
        for name, values in sorted(returns.items())
    ]
    return "\n".join(lines)
