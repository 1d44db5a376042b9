"""The training loop: the one place that holds environments, replay, agent and logger together.

A run's state is saved only at *pauses*, when every environment stands at an episode's end: then the
episode store, the replay's positions and the random streams are one consistent whole, and a resumed
run goes on bit for bit (CPU).

Where an environment fails, the episode under way is left out of everything that is kept and counted, and
another one takes its place; there is no pause until it has done so (`agent.progress`).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from agent import checkpoint
from agent.carried_episodes import open_carried_store, refill, without_random_start
from agent.controller import Controller
from agent.curious import make_agent
from agent.loading import Predecessor
from agent.metering import Meter
from agent.progress import Progress
from agent.reporting import Reporter
from agent.rollout import evaluate
from agent.run_parts import exploration_std, make_replay
from agent.seeding import Streams
from agent.stopping import StopRequest
from agent.update import make_update
from agent.warm_start import encoder_learns, start_from_encoder, start_from_run
from configs.schema import Config
from envs.episodes import EpisodeStore
from envs.recording import EpisodeBuilder
from envs.spec import Observation, Pool, StepResult, Transition, WorkerError
from world_model.batch import Batch
from world_model.divergence import check_finite
from world_model.encoder import Encoder

SHOWN_UPDATES = 10  # at once: more are worth saying how many are left
REMEDY = "lower --training.learning-rate, and start afresh in another --out"


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended.

    Attributes:
        frames: environment frames.
        finished: whether these were its goal.
        seconds: training time without evaluation, over all resumes.
        restarts: environments that failed and were built again, over all resumes.
    """

    frames: int
    finished: bool
    seconds: float
    restarts: int


class Loop:
    """One training process: made, announced, and run until `config.frames` or until asked to stop.

    A context: its log files are open inside.
    """

    def __init__(
        self,
        config: Config,
        run_dir: Path,
        device: torch.device,
        pool: Pool,
        eval_pool: Pool,
        streams: Streams,
        *,
        encoder: Encoder | None = None,
        predecessor: Predecessor | None = None,
    ):
        """Build everything, and load the newest checkpoint where there is one.

        Args:
            config: validated options.
            run_dir: held by this process alone.
            device: of the networks.
            pool: training environments.
            eval_pool: evaluation environments, used by nothing else.
            streams: the run's random streams.
            encoder: what the agent starts from, where it starts; unset: from weights drawn at random.
            predecessor: likewise a run, of which the episodes lie in `run_dir` already
                (`agent.carried_episodes`).

        Raises:
            CheckpointError: the newest checkpoint cannot be read.
            OSError: the run directory cannot be written.
        """
        self.carried_store = open_carried_store(config, run_dir)
        self.config = config if self.carried_store is None else without_random_start(config)
        self.run_dir = run_dir
        self.pool, self.eval_pool, self.streams = pool, eval_pool, streams
        with torch.random.fork_rng(devices=[]):  # networks are initialised from torch's global generator
            torch.manual_seed(int(streams.numpy("init").integers(2**63)))
            self.agent = make_agent(pool.env_spec, config, device)
        if encoder is not None:
            start_from_encoder(self.agent, encoder)
        if predecessor is not None:
            start_from_run(self.agent, predecessor)
        self.controller = Controller(self.agent, pool.count, streams.torch("policy", device), collects=True)
        self.replay = make_replay(config, pool, device)
        self.store = EpisodeStore(run_dir / "episodes")
        self.progress = Progress(
            episodes=[0] * pool.count,
            evaluate_at=config.evaluation.every_frames,
            save_at=config.logging.checkpoint_every_frames,
        )
        self.obs: dict[int, Observation] = {}
        self.returns = [0.0] * pool.count
        self.losses: dict[str, torch.Tensor] = {}
        self.builders: list[EpisodeBuilder] = []
        self.saved_frames = self._resume()
        self.saved_evaluation = self.progress.evaluated_at
        self.earlier_restarts = self.progress.restarts
        self.update = make_update(self.agent, streams.torch("augment", device))
        self.reporter = Reporter(run_dir, config, self.progress)
        self.meter = Meter()
        self.snapshot = self._state()

    def __enter__(self) -> Loop:
        """The loop itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the log files."""
        self.reporter.__exit__(None, None, None)

    def announce(self, manifest: Mapping[str, Any]) -> None:
        """Write down facts about this process, and put its versions into every episode."""
        self.reporter.announce(manifest)
        self.builders = [
            EpisodeBuilder(self.pool.env_spec, lane=i, versions=manifest.get("versions", {}))
            for i in range(self.pool.count)
        ]

    def run(self, stop: StopRequest) -> TrainingResult:
        """Collect and learn until done or asked to stop, which is looked at after every decision and update.

        Raises:
            DivergedError: losses are no numbers any more; what was saved stays.
            WorkerError: an environment fails too often; the last pause is saved.
            OSError: the run directory cannot be written.
        """
        progress = self.progress
        try:
            self._run(stop)
        except WorkerError as error:
            self._save()
            saved = f"the run is saved at {self.saved_frames:,} frames, the same command goes on from there"
            raise WorkerError(f"{error}; {saved}") from error
        finished = self._is_done() and not stop.requested
        stands_still = self._stands_still() and progress.updates >= self._updates_due()
        if finished or stands_still:  # episodes under way at the goal are left out of the last checkpoint
            self.snapshot = self._state()
        self._save()
        return TrainingResult(progress.frames, finished, progress.seconds, progress.restarts)

    def _run(self, stop: StopRequest) -> None:
        progress = self.progress
        bar = tqdm(
            total=self.config.frames,
            initial=progress.frames,
            unit="frame",
            unit_scale=True,
            smoothing=0.02,
            disable=not self.config.logging.progress,
            dynamic_ncols=True,
        )
        with bar, logging_redirect_tqdm():
            while not stop.requested:
                if self._evaluation_is_due():
                    self._evaluate(stop)
                if self._is_done():
                    break
                before = progress.frames
                self._pause_or_reset()
                self._collect()
                self._learn(stop, bar)
                bar.update(progress.frames - before)
                bar.set_postfix_str(self._postfix(), refresh=False)
            bar.set_postfix_str(self._postfix())

    def _is_done(self) -> bool:
        return self.progress.frames >= self.config.frames and self.progress.is_settled

    def _stands_still(self) -> bool:
        """Whether all that happened can be saved: no episode is under way, and none that failed is owed."""
        return not self.obs and self.progress.is_settled

    def _postfix(self) -> str:
        best = f"{self.progress.best_return:.0f}" if np.isfinite(self.progress.best_return) else "-"
        return f"return {self.progress.last_return:.0f}, best evaluation {best}"

    # Collecting.

    def _pause_or_reset(self) -> None:
        """Save when all environments stand still; start episodes in those that have none.

        Where a checkpoint is due, environments wait for one another, so that such a moment comes.
        """
        if self._stands_still():
            self.controller.start_counting()
            with self.meter.measure("saving"):
                self.snapshot = self._state()
                if self.progress.frames >= self.progress.save_at:
                    self._save()
        elif self.obs and self.progress.frames >= self.progress.save_at:
            return
        while idle := [lane for lane in range(self.pool.count) if lane not in self.obs]:
            self._start_episodes(idle)

    def _start_episodes(self, lanes: list[int]) -> None:
        """Start an episode in each of these environments that does not fail at it."""
        episodes = self.progress.episodes
        seeds = {lane: self.streams.episode_seed("env", episodes[lane], lane) for lane in lanes}
        for lane in lanes:  # a seed with which a reset failed is not used again
            episodes[lane] += 1
        with self.meter.measure("environment"):
            started = self.pool.reset(seeds)
        for lane, (obs, physics) in started.items():
            episode = self.replay.start(lane, obs)
            self.builders[lane].start(obs, physics, episode=episode, seed=seeds[lane])
            self.controller.reset(lane, episodes[lane] + lane)
            self.obs[lane], self.returns[lane] = obs, 0.0

    def _collect(self) -> None:
        """One decision in every environment that runs."""
        self.agent.advance(self.progress.frames)
        is_random = self.progress.frames < self.config.training.random_frames
        with self.meter.measure("acting"):
            actions = self._actions(is_random)
        with self.meter.measure("environment"):
            steps = self.pool.step(actions)
        for lane, step in steps.items():
            self._record(lane, actions[lane], step, is_random)
        for lane in actions.keys() - steps.keys():
            self._leave_out(lane)

    def _actions(self, is_random: bool) -> dict[int, np.ndarray]:
        if is_random:
            rng, dim = self.streams.numpy("policy"), self.pool.env_spec.action_dim
            actions = {lane: rng.uniform(-1, 1, dim).astype(np.float32) for lane in self.obs}
            self.controller.took(actions)
            return actions
        return self.controller.act(self.obs, exploration_std(self.config.training, self.progress.frames))

    def _record(self, lane: int, action: np.ndarray, step: StepResult, is_random: bool) -> None:
        transition = Transition.of(action, step)
        self.replay.add(lane, transition)
        episode = self.builders[lane].add(transition)
        self.progress.count(step.frames, is_random=is_random)
        self.returns[lane] += step.reward
        self.obs[lane] = step.obs
        if episode is not None:
            del self.obs[lane]
            self.store.commit(episode)
            self.progress.last_return = self.returns[lane]
            self.reporter.episode(episode, self.returns[lane])

    def _leave_out(self, lane: int) -> None:
        """Forget the episode under way in an environment that failed."""
        self.replay.discard(lane)
        lost = self.builders[lane].discard()
        self.progress.leave_out(sum(transition.frames for transition in lost), len(lost))
        del self.obs[lane]

    # Learning.

    def _learn(self, stop: StopRequest, bar: tqdm[Any]) -> None:
        """The gradient steps that are due; of many, as at the start, the bar says how many are left."""
        training, progress = self.config.training, self.progress
        while progress.updates < self._updates_due() and not stop.requested:
            with self.meter.measure("sampling"):
                batch = self.replay.sample(training.batch_size, self.streams.numpy("replay"))
                batch = batch.to(self.agent.device)
            imagine = progress.updates >= self.config.actor_critic.imagination_after_updates
            if (learns := encoder_learns(self.config, progress.updates)) != self.agent.learns_encoder:
                self.agent.learns_encoder = learns
            with self.meter.measure("update"):
                self.losses = self.update(batch, imagine=imagine)
            progress.updates += 1
            if (left := self._updates_due() - progress.updates) and left % SHOWN_UPDATES == 0:
                bar.set_postfix_str(f"catching up, {left} updates to go")
            if progress.updates % self.config.logging.every_updates == 0:
                with self.meter.measure("logging"):
                    self._log(batch)

    def _updates_due(self) -> int:
        """Gradient steps that belong to the decisions taken so far."""
        training, progress = self.config.training, self.progress
        if progress.frames < training.random_frames or not len(self.replay):
            return 0
        learning_steps = progress.steps - progress.random_steps
        return training.first_updates + int(learning_steps * training.updates_per_step)

    def _log(self, batch: Batch) -> None:
        generator = torch.Generator(self.agent.device).manual_seed(self.progress.updates)
        values = {name: float(value) for name, value in self.losses.items()}
        values |= {name: float(value) for name, value in self.agent.diagnose(batch, generator).items()}
        check_finite(values, self.progress.updates, REMEDY)
        values |= self.controller.planner_metrics()
        values["replay/windows"] = len(self.replay)
        self._account()
        values["train/restarts"] = self.progress.restarts
        self.reporter.scalars(values | self.meter.shares())

    def _account(self) -> None:
        """Bring the run's totals of time and restarts up to date."""
        self.progress.seconds += self.meter.lap()
        here = self.pool.restarts + self.eval_pool.restarts
        self.progress.restarts = self.earlier_restarts + here

    # Evaluating and saving.

    def _evaluation_is_due(self) -> bool:
        progress = self.progress
        is_new = progress.frames > progress.evaluated_at and progress.is_settled
        return is_new and progress.frames >= min(progress.evaluate_at, self.config.frames)

    def _evaluate(self, stop: StopRequest) -> None:
        """Deterministic episodes on seeds of their own; their time is not training time.

        One that is cut short is not recorded, and made again when the run goes on.
        """
        self._account()
        options, progress = self.config.evaluation, self.progress
        seeds = [self.streams.episode_seed("eval", i) for i in range(options.episodes)]
        images = options.videos and self.eval_pool.env_spec.is_drawn
        with self.agent.steady.acting():
            results = evaluate(self.agent, self.eval_pool, seeds, images=images, stop=stop)
        if stop.requested:
            return
        self.reporter.evaluation(results, self.agent.discount)
        returns = [result.episode_return for result in results]
        progress.best_return = max(progress.best_return, float(np.mean(returns)))
        progress.evaluated_at = progress.frames
        progress.evaluate_at = (progress.frames // options.every_frames + 1) * options.every_frames
        tqdm.write(f"{progress.frames:>9,} frames  return {np.mean(returns):7.1f} ± {np.std(returns):.1f}")
        self.meter.lap()

    def _state(self) -> dict[str, Any]:
        """Everything that a resumed run needs, with copies of what training changes in place."""
        self._account()
        return {
            "env_spec": asdict(self.pool.env_spec),
            "progress": asdict(self.progress),
            "agent": copy.deepcopy(self.agent.state_dict()),
            "streams": self.streams.state_dict(),
            "replay": self.replay.state_dict(),
            "stored_episodes": len(self.store),
        }

    def _save(self) -> None:
        """Write the snapshot of the last pause, unless it is on disk already."""
        frames, evaluation = (self.snapshot["progress"][name] for name in ("frames", "evaluated_at"))
        every = self.config.logging.checkpoint_every_frames
        self.progress.save_at = (frames // every + 1) * every
        if (frames, evaluation) == (self.saved_frames, self.saved_evaluation):
            return
        self.snapshot["progress"]["save_at"] = self.progress.save_at
        directory = self.run_dir / "checkpoints"
        checkpoint.save(checkpoint.numbered(directory, frames), self.snapshot)
        checkpoint.retain(directory, keep_every=self.config.logging.keep_every_frames)
        self.saved_frames, self.saved_evaluation = frames, evaluation

    def _resume(self) -> int:
        """Load the newest checkpoint; episodes recorded after it are dropped and will be made again.

        Returns:
            Frames of that checkpoint, 0 where there is none.
        """
        path = checkpoint.latest(self.run_dir / "checkpoints")
        if path is None:
            frames = sum(self.store.read(identifier).info.frames for identifier in self.store.ids())
            if frames >= self.config.logging.checkpoint_every_frames:  # someone deleted the checkpoints
                target = self.store.set_aside()
                tqdm.write(f"no checkpoint: starting afresh; earlier episodes are in {target}")
            self.store.drop_after(0)
            if self.carried_store is not None:
                refill(self.replay, self.carried_store)
            return 0
        state = checkpoint.load(path)
        self.store.drop_after(state["stored_episodes"])
        self.progress = Progress(**state["progress"])
        self.agent.load_state_dict(state["agent"])
        self.streams.load_state_dict(state["streams"])
        self.replay.restore(self.store, state["replay"], carried_store=self.carried_store)
        return self.progress.frames
