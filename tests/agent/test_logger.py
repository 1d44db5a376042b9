from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)
from tensorboard.plugins.custom_scalar import layout_pb2  # type: ignore[import-untyped]

from agent.logger import Logger, encode_gif

ROOT = Path(__file__).parents[2]
HEADER = "frames,updates,seconds,return_mean,return_std,episodes"


def records(run_dir: Path) -> list[dict[str, float | None]]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def events(run_dir: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(run_dir / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    return accumulator.Reload()


def write(logger: Logger, frames: int) -> None:
    logger.scalars(frames, {"loss/temporal": frames / 8}, updates=frames // 8, seconds=frames / 100)
    logger.evaluation(frames, [1.0, 2.0, 6.0 + frames], updates=frames // 8, seconds=frames / 100)


def strict_json(line: str) -> dict[str, object]:
    def refuse(token: str) -> None:
        raise AssertionError(f"{token} is no JSON")

    return dict(json.loads(line, parse_constant=refuse))


def test_records_hold_what_was_logged(tmp_path: Path) -> None:
    values = {"a": 0.1, "b": np.float32(2.5), "c": torch.tensor(3.0), "d": 4, "e": float("nan"), "f": -np.inf}
    with Logger(tmp_path / "new" / "run", tensorboard=False) as logger:
        logger.scalars(80, values, updates=10, seconds=1.23456)  # type: ignore[arg-type]
        logger.evaluation(80, [1.0, 2.0, 6.0], updates=10, seconds=1.5)
        logger.text("config", "text")
        logger.video("video", np.zeros((2, 4, 4, 3), np.uint8), fps=10, at=80)
        logger.layout({})
    (line,) = (tmp_path / "new" / "run" / "metrics.jsonl").read_text().splitlines()
    assert strict_json(line) == {
        "frames": 80,
        "updates": 10,
        "seconds": 1.235,
        "a": 0.1,
        "b": 2.5,
        "c": 3.0,
        "d": 4.0,
        "e": None,
        "f": None,
    }
    assert (tmp_path / "new" / "run" / "eval.csv").read_text() == f"{HEADER}\n80,10,1.500,3,2.16025,3\n"
    assert sorted(path.name for path in (tmp_path / "new" / "run").iterdir()) == ["eval.csv", "metrics.jsonl"]


def test_lines_can_be_read_while_the_run_goes_on(tmp_path: Path) -> None:
    with Logger(tmp_path, tensorboard=False) as logger:
        assert (tmp_path / "eval.csv").read_text() == HEADER + "\n"
        for count in range(1, 4):
            write(logger, count)
            assert len(records(tmp_path)) == count
            assert len((tmp_path / "eval.csv").read_text().splitlines()) == 1 + count


def test_killed_process_loses_no_line(tmp_path: Path) -> None:
    program = f"""
import os, signal
from agent.logger import Logger
logger = Logger({str(tmp_path)!r}, tensorboard=False)
for k in range(5):
    logger.scalars(k, {{"x": k}}, updates=k, seconds=k)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert [record["frames"] for record in records(tmp_path)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("torn", ["", '{"frames": 8, "upd', "\0\0\0", '{"frames": 8}'])
def test_resume_cuts_what_came_after_the_checkpoint(torn: str, tmp_path: Path) -> None:
    with Logger(tmp_path, tensorboard=False) as logger:
        for frames in (8, 16, 24, 32):
            write(logger, frames)
    before = {name: (tmp_path / name).read_text() for name in ("metrics.jsonl", "eval.csv")}
    for name in before:
        with open(tmp_path / name, "a") as file:
            file.write(torn)
    with Logger(tmp_path, tensorboard=False, start=16) as logger:
        assert (tmp_path / "metrics.jsonl").read_text() == "".join(
            before["metrics.jsonl"].splitlines(True)[:2]
        )
        assert (tmp_path / "eval.csv").read_text() == "".join(before["eval.csv"].splitlines(True)[:3])
        for frames in (24, 32):
            write(logger, frames)
    assert {name: (tmp_path / name).read_text() for name in before} == before


def test_evaluations_that_a_checkpoint_does_not_know_of_are_cut(tmp_path: Path) -> None:
    with Logger(tmp_path, tensorboard=False) as logger:
        for frames in (8, 16):
            write(logger, frames)
            logger.scalars(frames, {"eval/start_value": 1.0}, updates=1, seconds=0.1)
    Logger(tmp_path, tensorboard=False, start=16, evaluated_at=8).close()
    assert [line.split(",")[0] for line in (tmp_path / "eval.csv").read_text().splitlines()[1:]] == ["8"]
    kept = [(record["frames"], "eval/start_value" in record) for record in records(tmp_path)]
    assert kept == [(8, False), (8, True), (16, False)]


def test_updates_as_the_axis(tmp_path: Path) -> None:
    """As pretraining has it: no frames, no evaluations, and cut by updates."""
    with Logger(tmp_path, axis="updates") as logger:
        for updates in (5, 10, 15):
            logger.scalars(updates, {"loss/contrast": updates / 2}, seconds=updates)
        with pytest.raises(AssertionError, match="not over updates"):
            logger.evaluation(5, [1.0], updates=5, seconds=1.0)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"updates": 5, "seco')
    with Logger(tmp_path, axis="updates", start=10) as logger:
        logger.scalars(12, {"loss/contrast": 9.0}, seconds=12.0)
    lines = [list(json.loads(line).items()) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [
        [("updates", 5), ("seconds", 5), ("loss/contrast", 2.5)],
        [("updates", 10), ("seconds", 10), ("loss/contrast", 5.0)],
        [("updates", 12), ("seconds", 12.0), ("loss/contrast", 9.0)],
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl", "tensorboard"]
    shown = [(event.step, event.value) for event in events(tmp_path).Scalars("loss/contrast")]
    assert shown == [(5, 2.5), (10, 5.0), (12, 9.0)]


@pytest.mark.parametrize("torn", ["24,3,0.24", "24,3,0.240,11,9.4,", "24,3,0.240,11,9.4,3", "2"])
def test_torn_evaluation_is_dropped(torn: str, tmp_path: Path) -> None:
    with Logger(tmp_path, tensorboard=False) as logger:
        write(logger, 16)
    before = (tmp_path / "eval.csv").read_text()
    (tmp_path / "eval.csv").write_text(before + torn)
    Logger(tmp_path, tensorboard=False, start=100).close()
    assert (tmp_path / "eval.csv").read_text() == before


def test_new_run_in_an_old_directory_starts_empty(tmp_path: Path) -> None:
    with Logger(tmp_path) as logger:
        write(logger, 16)
    Logger(tmp_path).close()
    assert records(tmp_path) == []
    assert (tmp_path / "eval.csv").read_text() == HEADER + "\n"
    assert events(tmp_path).Scalars("loss/temporal") == []


def test_failed_cut_leaves_the_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Logger(tmp_path, tensorboard=False) as logger:
        write(logger, 16)
    before = (tmp_path / "metrics.jsonl").read_text()

    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "no")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no"):
        Logger(tmp_path, tensorboard=False)
    assert (tmp_path / "metrics.jsonl").read_text() == before


def test_tensorboard_shows_everything(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 12, 16, 3), np.uint8)
    with Logger(tmp_path) as logger:
        logger.layout({"losses": {"contrastive": ["Multiline", ["loss/temporal"]]}})
        logger.text("config", "# Options\n\n    seed: 1")
        write(logger, 8)
        logger.video("eval/video", images, fps=20, at=8)
    shown = events(tmp_path)
    assert [(e.step, e.value) for e in shown.Scalars("loss/temporal")] == [(8, 1.0)]
    assert [(e.step, round(e.value, 4)) for e in shown.Scalars("eval/return_mean")] == [(8, 5.6667)]
    assert set(shown.Tags()["scalars"]) == {"loss/temporal", "eval/return_mean", "eval/return_std"}
    (image,) = shown.Images("eval/video")
    assert (image.step, image.width, image.height) == (8, 16, 12)
    assert image.encoded_image_string == encode_gif(images, fps=20)
    (text,) = shown.Tensors("config/text_summary")
    assert b"# Options" in text.tensor_proto.string_val[0]
    (arranged,) = shown.Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(arranged.tensor_proto.string_val[0])
    assert layout.category[0].chart[0].multiline.tag == ["loss/temporal"]


def test_tensorboard_hides_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    with Logger(tmp_path) as logger:
        for frames in (8, 16, 24, 32):
            write(logger, frames)
    with Logger(tmp_path, start=16) as logger:
        logger.scalars(24, {"loss/temporal": 99.0}, updates=1, seconds=1.0)
    values = [(event.step, event.value) for event in events(tmp_path).Scalars("loss/temporal")]
    assert values == [(8, 1.0), (16, 2.0), (24, 99.0)]


def test_gif_holds_all_frames_at_their_pace() -> None:
    images = np.zeros((6, 10, 14, 3), np.uint8)
    for k, image in enumerate(images):
        image[:, : 2 + 2 * k] = (255, 0, 0)
    with Image.open(io.BytesIO(encode_gif(images, fps=25))) as gif:
        assert (getattr(gif, "n_frames", 1), gif.size, gif.info["loop"]) == (6, (14, 10), 0)
        assert gif.info["duration"] == 40
        for k in range(6):
            gif.seek(k)
            assert np.array_equal(np.asarray(gif.convert("RGB")), images[k])


def test_tensorboard_is_imported_only_when_used(tmp_path: Path) -> None:
    program = f"""
import sys
from agent.logger import Logger
Logger({str(tmp_path)!r}, tensorboard=False).close()
print([name for name in ("tensorboard", "torch") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "[]", done.stderr
