"""What the distractors look like, and what they cost.

    python benchmarks/distractors.py

Draws `docs/figures/distractors.png`: a row without distractors, then one for each kind and strength; columns
are moments of one episode, the same in all rows but for the pixels. Writes milliseconds of CPU time a
decision, of each kind in both looks, to `benchmarks/results/distractors.csv`: that counts rendering where it
is done in software, and does not change with what else a machine does.
"""

from __future__ import annotations

import csv
import statistics
import time
from pathlib import Path
from typing import get_args

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from configs.distractors import NO_DISTRACTORS, DistractorOptions, StrengthName
from envs import make_env

ROOT = Path(__file__).parent.parent
FIGURE = ROOT / "docs" / "figures" / "distractors.png"
TIMES = ROOT / "benchmarks" / "results" / "distractors.csv"

TASKS = ("dmc/walker-walk", "dmc/cartpole-swingup")
SEED = 2
SHOWN_DECISIONS = (0, 4, 40)
TIMED_TASK = "dmc/walker-walk"
TIMED_DECISIONS = {"fast": 300, "original": 40}
SIDE, MARGIN, GAP = 72, 100, 3  # pixels


def choices() -> list[str]:
    """None, and every kind in every strength."""
    kinds = DistractorOptions.model_fields
    return [NO_DISTRACTORS, *(f"{kind}={strength}" for kind in kinds for strength in get_args(StrengthName))]


def frames(task: str, distract: str) -> list[np.ndarray]:
    """The shown moments of an episode with random actions, uint8 (3, H, W) each."""
    env = make_env(task, distract=distract, stack=1)
    rng = np.random.default_rng(SEED)
    obs, _ = env.reset(seed=SEED)
    seen = [obs]
    for _ in range(max(SHOWN_DECISIONS)):
        seen.append(env.step(rng.uniform(-1, 1, np.shape(env.action_space.sample())))[0])
    env.close()
    return [seen[decision] for decision in SHOWN_DECISIONS]


def draw() -> None:
    """The sheet of pictures."""
    columns = len(TASKS) * len(SHOWN_DECISIONS)
    size = MARGIN + columns * (SIDE + GAP), len(choices()) * (SIDE + GAP)
    sheet = Image.new("RGB", size, "white")
    font = ImageFont.load_default(12)
    for row, distract in enumerate(choices()):
        top = row * (SIDE + GAP)
        text = distract.replace("=", "\n")
        ImageDraw.Draw(sheet).text((4, top + SIDE // 2), text, fill="black", font=font, anchor="lm")
        pictures = [frame for task in TASKS for frame in frames(task, distract)]
        for column, picture in enumerate(pictures):
            image = Image.fromarray(picture.transpose(1, 2, 0)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            sheet.paste(image, (MARGIN + column * (SIDE + GAP), top))
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    palette = sheet.quantize(256, kmeans=4)
    sheet.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(FIGURE, optimize=True)


def milliseconds(distract: str, look: str) -> float:
    """Median CPU time of a decision: physics, drawing and distractors."""
    env = make_env(TIMED_TASK, distract=distract, look=look, stack=1)
    env.reset(seed=SEED)
    action = np.zeros_like(env.action_space.sample())
    times = []
    for _ in range(TIMED_DECISIONS[look]):
        begin = time.process_time()
        env.step(action)
        times.append(time.process_time() - begin)
    env.close()
    return 1e3 * statistics.median(times)


def main() -> None:
    """Draw, then measure."""
    draw()
    print(f"drawn: {FIGURE.relative_to(ROOT)}")
    kinds = [NO_DISTRACTORS, *(f"{kind}=hard" for kind in DistractorOptions.model_fields)]
    kinds.append(",".join(kinds[1:]))
    with TIMES.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("task", "look", "distract", "cpu_ms_a_decision"))
        for look in TIMED_DECISIONS:
            for distract in kinds:
                row = (TIMED_TASK, look, distract, f"{milliseconds(distract, look):.2f}")
                writer.writerow(row)
                print(*row)


if __name__ == "__main__":
    main()
