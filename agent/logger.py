"""What a run or a pretraining reports: `metrics.jsonl`, `eval.csv` and TensorBoard, each cut back on resume.

Frames (environment steps before action repeat) are the x-axis of everything in a run, gradient steps in a
pretraining, which writes no `eval.csv`.
"""

from __future__ import annotations

import io
import json
import math
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

import numpy as np
from PIL import Image

from agent.atomic import write_atomically

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

EVAL_COLUMNS = ("frames", "updates", "seconds", "return_mean", "return_std", "episodes")


class Logger:
    """Appends records to the files of a directory; each is on its way to disk when the call returns."""

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        axis: Literal["frames", "updates"] = "frames",
        tensorboard: bool = True,
        start: int = 0,
        evaluated_at: int | None = None,
    ) -> None:
        """Open the files; records later than `start`, and a torn last line, are dropped.

        Args:
            directory: made where it does not exist.
            axis: what everything is drawn over: environment frames, or gradient steps, where there are no
                frames and nothing is evaluated.
            tensorboard: also write event files to `tensorboard` inside it.
            start: place on the axis of the checkpoint that is gone on from, 0 for a new run.
            evaluated_at: frames of the last evaluation that this checkpoint knows of; later ones will be
                made again, so that their records are dropped, too; unset: those at `start` stay.
        """
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        evaluated = start if evaluated_at is None else evaluated_at

        def is_kept(line: str) -> bool:
            record = json.loads(line)
            is_evaluation = any(name.startswith("eval/") for name in record)
            return bool(record[axis] <= (evaluated if is_evaluation else start))

        _cut(directory / "metrics.jsonl", "", is_kept)
        self._axis = axis
        self._metrics = _open(directory / "metrics.jsonl")
        self._evaluations: TextIO | None = None
        if axis == "frames":
            header = ",".join(EVAL_COLUMNS) + "\n"
            _cut(directory / "eval.csv", header, lambda line: int(line.split(",")[0]) <= evaluated)
            self._evaluations = _open(directory / "eval.csv")
        self._tensorboard = _make_writer(directory / "tensorboard", start) if tensorboard else None

    def scalars(
        self, at: int, values: Mapping[str, float], *, seconds: float, updates: int | None = None
    ) -> None:
        """Write one line of metrics; a value that is not finite becomes null.

        Args:
            at: place on the axis.
            values: by name, for instance `loss/temporal`.
            seconds: training time so far, over all resumes.
            updates: gradient steps so far, where the axis is another.
        """
        beside = {} if updates is None else {"updates": updates}
        record = {self._axis: at, **beside, "seconds": round(seconds, 3), **_finite(values)}
        self._metrics.write(json.dumps(record) + "\n")
        if self._tensorboard:
            for name, value in values.items():
                self._tensorboard.add_scalar(name, value, at)

    def evaluation(self, frames: int, returns: Sequence[float], *, updates: int, seconds: float) -> None:
        """Write one row of `eval.csv`, and mean and deviation to TensorBoard.

        Args:
            frames: place on the axis.
            returns: of the evaluation's episodes; their deviation is that of the population.
            updates: gradient steps so far.
            seconds: training time so far, over all resumes.
        """
        assert self._evaluations is not None, f"evaluations are recorded over frames, not over {self._axis}"
        mean, std = statistics.fmean(returns), statistics.pstdev(returns)
        self._evaluations.write(f"{frames},{updates},{seconds:.3f},{mean:.6g},{std:.6g},{len(returns)}\n")
        if self._tensorboard:
            self._tensorboard.add_scalar("eval/return_mean", mean, frames)
            self._tensorboard.add_scalar("eval/return_std", std, frames)
            self._tensorboard.flush()

    def text(self, tag: str, text: str, *, at: int = 0) -> None:
        """Show a text (Markdown) in TensorBoard."""
        if self._tensorboard:
            self._tensorboard.add_text(tag, text, at)

    def video(self, tag: str, images: np.ndarray, *, fps: float, at: int) -> None:
        """Show an animation in TensorBoard.

        Args:
            tag: its name.
            images: uint8 [0, 255] (T, H, W, 3).
            fps: images a second.
            at: place on the axis.
        """
        if not self._tensorboard:
            return
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]

        height, width = images.shape[1:3]
        gif = Summary.Image(
            height=height, width=width, colorspace=3, encoded_image_string=encode_gif(images, fps=fps)
        )
        # `add_video` needs moviepy; the writer below takes any summary.
        writer = self._tensorboard._get_file_writer()
        writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=gif)]), at)

    def layout(self, layout: Mapping[str, Mapping[str, Sequence[Any]]]) -> None:
        """Arrange scalars in TensorBoard's custom tab: category -> chart -> ["Multiline", [tags]]."""
        if self._tensorboard:
            self._tensorboard.add_custom_scalars(layout)

    def close(self) -> None:
        """Flush and close everything."""
        self._metrics.close()
        if self._evaluations:
            self._evaluations.close()
        if self._tensorboard:
            self._tensorboard.close()

    def __enter__(self) -> Logger:
        """The logger itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close."""
        self.close()


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: float(value) if math.isfinite(value) else None for name, value in values.items()}


def encode_gif(images: np.ndarray, *, fps: float) -> bytes:
    """An animated GIF that repeats for ever.

    Args:
        images: uint8 [0, 255] (T, H, W, 3), T >= 1.
        fps: images a second; the format counts in hundredths of a second.
    """
    first, *others = (Image.fromarray(image) for image in images)
    buffer = io.BytesIO()
    duration_ms = max(20, 10 * round(100 / fps))  # many viewers slow down anything shorter
    first.save(buffer, "gif", save_all=True, append_images=others, duration=duration_ms, loop=0)
    return buffer.getvalue()


def _open(path: Path) -> TextIO:
    return open(path, "a", encoding="utf-8", buffering=1)  # line-buffered: a killed run loses no whole line


def _cut(path: Path, header: str, is_kept: Callable[[str], bool]) -> None:
    """Rewrite a file of records with those that are kept and whole; a new one gets the header alone."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    lines = text.splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and _holds(is_kept, line)]
    write_atomically(path, header + "".join(kept))


def _holds(is_kept: Callable[[str], bool], line: str) -> bool:
    try:
        return is_kept(line)
    except (ValueError, KeyError, TypeError):  # damaged, or the header
        return False


def _make_writer(directory: Path, start: int) -> SummaryWriter:
    from torch.utils.tensorboard import SummaryWriter  # slow to import

    # Hides older events from that step on; those at `start` belong to the checkpoint.
    return SummaryWriter(str(directory), purge_step=start + 1)
