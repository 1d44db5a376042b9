"""`nearfar evaluate`: returns of a trained agent, on episodes it was not trained with."""

from __future__ import annotations

import errno
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from configs.control import ControlName
from configs.distractors import NO_DISTRACTORS, DistractorText
from configs.load import ConfigError
from configs.options import NonNegative, Options, Positive
from scripts.options import parse_flags
from scripts.wiring import choose_backend, make_evaluation_pool, resolve_device

if TYPE_CHECKING:
    from agent.rollout import EpisodeResult


class EvaluateOptions(Options):
    """Returns of a trained agent, on episodes it was not trained with."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run directory of `nearfar train`, or one of its checkpoints."""
    episodes: Positive = 10
    """Episodes to run."""
    control: ControlName | None = None
    """How actions are chosen; unset: as in the run."""
    distract: DistractorText | None = None
    """Distractors, for instance none for clean pixels; unset: as in the run, where draws are unseen."""
    seed: NonNegative = 0
    """Which episodes: the same seed gives the same ones."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the networks run."""
    video: Path | None = None
    """Write the first episode as a GIF."""
    as_json: Annotated[bool, tyro.conf.arg(name="json"), tyro.conf.FlagCreatePairsOff] = False
    """Print JSON alone."""


def main(arguments: Sequence[str]) -> int:
    """Evaluate; see `nearfar evaluate --help`."""
    options = parse_flags(EvaluateOptions, "nearfar evaluate", arguments)

    from agent import load_agent
    from agent.rollout import evaluate
    from agent.seeding import Streams

    loaded = load_agent(options.run, device=str(resolve_device(options.device)))
    config = loaded.agent.config
    if options.distract is not None:
        if not config.sees_pixels:
            raise ConfigError(f"{options.run} sees no pixels (obs {config.obs}): leave --distract out")
        config = config.model_copy(update={"distract": options.distract})
    with_video = options.video is not None
    choose_backend(needed=config.sees_pixels or with_video)
    control = options.control or config.planner.control
    streams = Streams(options.seed)
    seeds = [streams.episode_seed("eval", index) for index in range(options.episodes)]
    with make_evaluation_pool(config, options.episodes, pictures=with_video) as pool:
        results = evaluate(loaded.agent, pool, seeds, control=control, images=with_video)
    summary = _summary(results, loaded.frames, control, config.distract)
    print(json.dumps(summary) if options.as_json else _as_text(config.task, summary))
    if options.video:
        _write_video(results[0], options.video)
    return 0


def _write_video(result: EpisodeResult, path: Path) -> None:
    """Write an episode as a GIF, after its returns are printed: they must not be lost to a mistyped path."""
    from agent.reporting import write_episode

    try:
        write_episode(result, path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ConfigError(f"cannot write --video {path} ({error.strerror}): give another path") from error


def _summary(results: list[EpisodeResult], frames: int, control: str, distract: str) -> dict[str, Any]:
    returns = [result.episode_return for result in results]
    return {
        "return_mean": statistics.fmean(returns),
        "return_std": statistics.pstdev(returns),
        "returns": returns,
        "episodes": len(returns),
        "frames": frames,
        "control": control,
        "distract": distract,
    }


def _as_text(task: str, summary: dict[str, Any]) -> str:
    returns = " ".join(f"{value:.1f}" for value in summary["returns"])
    distracted = "" if summary["distract"] == NO_DISTRACTORS else f", {summary['distract']}"
    return (
        f"{task} after {summary['frames']:,} frames, {summary['control']}{distracted}: "
        f"{summary['return_mean']:.1f} ± {summary['return_std']:.1f} "
        f"over {summary['episodes']} episodes ({returns})"
    )
