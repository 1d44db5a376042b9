"""What a run reports: `metrics.jsonl`, `eval.csv` and TensorBoard, each cut back on resume.

Frames (environment steps before action repeat) are the x-axis of everything.
"""

from __future__ import annotations

import io
import json
import math
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
from PIL import Image

from agent.atomic import write_atomically

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

EVAL_COLUMNS = ("frames", "updates", "seconds", "return_mean", "return_std", "episodes")


class Logger:
    """Appends records to the files of a run directory; each is on its way to disk when the call returns."""

    def __init__(
        self,
        run_dir: str | os.PathLike[str],
        *,
        tensorboard: bool = True,
        frames: int = 0,
        evaluated_at: int | None = None,
    ) -> None:
        """Open the files; records later than `frames`, and a torn last line, are dropped.

        Args:
            run_dir: made where it does not exist.
            tensorboard: also write event files to `run_dir/tensorboard`.
            frames: frames of the checkpoint that the run goes on from, 0 for a new one.
            evaluated_at: frames of the last evaluation that this checkpoint knows of; later ones will be
                made again, so that their records are dropped, too; unset: those at `frames` stay.
        """
        run_dir = Path(run_dir)
        run_dir.mkdir(parents=True, exist_ok=True)
        evaluated = frames if evaluated_at is None else evaluated_at

        def is_kept(line: str) -> bool:
            record = json.loads(line)
            is_evaluation = any(name.startswith("eval/") for name in record)
            return bool(record["frames"] <= (evaluated if is_evaluation else frames))

        _cut(run_dir / "metrics.jsonl", "", is_kept)
        header = ",".join(EVAL_COLUMNS) + "\n"
        _cut(run_dir / "eval.csv", header, lambda line: int(line.split(",")[0]) <= evaluated)
        self._metrics = _open(run_dir / "metrics.jsonl")
        self._evaluations = _open(run_dir / "eval.csv")
        self._tensorboard = _make_writer(run_dir / "tensorboard", frames) if tensorboard else None

    def scalars(self, frames: int, values: Mapping[str, float], *, updates: int, seconds: float) -> None:
        """Write one line of metrics; a value that is not finite becomes null.

        Args:
            frames: x-axis.
            values: by name, for instance `loss/temporal`.
            updates: gradient steps so far.
            seconds: training time so far, over all resumes.
        """
        record = {"frames": frames, "updates": updates, "seconds": round(seconds, 3), **_finite(values)}
        self._metrics.write(json.dumps(record) + "\n")
        if self._tensorboard:
            for name, value in values.items():
                self._tensorboard.add_scalar(name, value, frames)

    def evaluation(self, frames: int, returns: Sequence[float], *, updates: int, seconds: float) -> None:
        """Write one row of `eval.csv`, and mean and deviation to TensorBoard.

        Args:
            frames: x-axis.
            returns: of the evaluation's episodes; their deviation is that of the population.
            updates: gradient steps so far.
            seconds: training time so far, over all resumes.
        """
        mean, std = statistics.fmean(returns), statistics.pstdev(returns)
        self._evaluations.write(f"{frames},{updates},{seconds:.3f},{mean:.6g},{std:.6g},{len(returns)}\n")
        if self._tensorboard:
            self._tensorboard.add_scalar("eval/return_mean", mean, frames)
            self._tensorboard.add_scalar("eval/return_std", std, frames)
            self._tensorboard.flush()

    def text(self, tag: str, text: str, *, frames: int = 0) -> None:
        """Show a text (Markdown) in TensorBoard."""
        if self._tensorboard:
            self._tensorboard.add_text(tag, text, frames)

    def video(self, tag: str, images: np.ndarray, *, fps: float, frames: int) -> None:
        """Show an animation in TensorBoard.

        Args:
            tag: its name.
            images: uint8 [0, 255] (T, H, W, 3).
            fps: images a second.
            frames: x-axis.
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
        writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=gif)]), frames)

    def layout(self, layout: Mapping[str, Mapping[str, Sequence[Any]]]) -> None:
        """Arrange scalars in TensorBoard's custom tab: category -> chart -> ["Multiline", [tags]]."""
        if self._tensorboard:
            self._tensorboard.add_custom_scalars(layout)

    def close(self) -> None:
        """Flush and close everything."""
        self._metrics.close()
        self._evaluations.close()
        if self._tensorboard:
            self._tensorboard.close()

    def __enter__(self) -> Logger:
        """The logger itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close."""
        self.close()


class UpdateLogger:
    """As `Logger`, for what has no frames: gradient steps are the x-axis, and nothing is evaluated."""

    def __init__(
        self, directory: str | os.PathLike[str], *, tensorboard: bool = True, updates: int = 0
    ) -> None:
        """Open `metrics.jsonl`; records later than `updates`, and a torn last line, are dropped."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        _cut(directory / "metrics.jsonl", "", lambda line: bool(json.loads(line)["updates"] <= updates))
        self._metrics = _open(directory / "metrics.jsonl")
        self._tensorboard = _make_writer(directory / "tensorboard", updates) if tensorboard else None

    def scalars(self, updates: int, values: Mapping[str, float], *, seconds: float) -> None:
        """Write one line of metrics; a value that is not finite becomes null.

        Args:
            updates: x-axis.
            values: by name, for instance `loss/contrast`.
            seconds: training time so far, over all resumes.
        """
        record = {"updates": updates, "seconds": round(seconds, 3), **_finite(values)}
        self._metrics.write(json.dumps(record) + "\n")
        if self._tensorboard:
            for name, value in values.items():
                self._tensorboard.add_scalar(name, value, updates)

    def close(self) -> None:
        """Flush and close everything."""
        self._metrics.close()
        if self._tensorboard:
            self._tensorboard.close()

    def __enter__(self) -> UpdateLogger:
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


def _make_writer(directory: Path, frames: int) -> SummaryWriter:
    from torch.utils.tensorboard import SummaryWriter  # slow to import

    # Hides older events from that step on; those at `frames` belong to the checkpoint.
    return SummaryWriter(str(directory), purge_step=frames + 1)
