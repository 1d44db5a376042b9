"""What the operations and recipes of views look like, and what they cost.

    python benchmarks/views.py

Draws `docs/figures/views.png`: a row for each operation alone and for each recipe, columns are four views of
a frame of each task. Writes milliseconds of CPU time for a batch of stacks, on one thread, to
`benchmarks/results/views.csv`.
"""

from __future__ import annotations

import csv
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from configs.views import RECIPES, ViewOptions
from envs import make_env
from scripts.launch import restart_with_allocator
from world_model.views.parameters import draw_parameters
from world_model.views.pipeline import apply_view
from world_model.views.randomness import keyed_uniforms

ROOT = Path(__file__).parent.parent
FIGURE = ROOT / "docs" / "figures" / "views.png"
TIMES = ROOT / "benchmarks" / "results" / "views.csv"

TASKS = ("dmc/walker-walk", "dmc/cartpole-swingup")
SEED = 2
DECISIONS = 4
VIEWS = 4
MARGIN, GAP = 90, 3  # pixels
ROWS, STACK, SIDE = 256, 3, 64
REPEATS = 7

# each as strong as in the recipe simclr, where it is in there, and on every row
ALONE = {
    "original": ViewOptions(),
    "shift": RECIPES["shift"],
    "crop": ViewOptions(crop=54),
    "resized crop": ViewOptions(resized_crop=1.0),
    "flip": ViewOptions(flip=1.0),
    "jitter": ViewOptions(jitter=1.0),
    "grey": ViewOptions(grey=1.0),
    "blur": ViewOptions(blur=1.0),
    "solarise": ViewOptions(solarise=1.0),
    "cutout": ViewOptions(cutout=1.0),
}


def choices() -> dict[str, ViewOptions]:
    """Rows of the figure: operations, then recipes that are more than one of them."""
    mixed = {name: RECIPES[name] for name in ("colour", "simclr", "moco-v1", "moco-v2", "byol")}
    return ALONE | mixed | {"byol, second": RECIPES["byol"].of_second_views()}


def make_view(stacks: Tensor, options: ViewOptions, view: int) -> Tensor:
    """One view of every stack."""
    uniforms = keyed_uniforms(torch.arange(len(stacks)), seed=SEED, update=0, view=view)
    return apply_view(stacks, draw_parameters(options, uniforms, (stacks.shape[2], stacks.shape[3])))


def newest_frame(task: str) -> Tensor:
    """A moment of an episode with random actions, uint8 (1, 3, H, W)."""
    env = make_env(task, stack=1)
    rng = np.random.default_rng(SEED)
    obs, _ = env.reset(seed=SEED)
    for _ in range(DECISIONS):
        obs = env.step(rng.uniform(-1, 1, np.shape(env.action_space.sample())))[0]
    env.close()
    return torch.from_numpy(obs)[None]


def draw() -> None:
    """The sheet of pictures; all rows have the same numbers, so that each operation can be followed."""
    frames = [newest_frame(task) for task in TASKS]
    size = MARGIN + len(TASKS) * VIEWS * (SIDE + GAP), len(choices()) * (SIDE + GAP)
    sheet = Image.new("RGB", size, "white")
    font = ImageFont.load_default(12)
    for row, (name, options) in enumerate(choices().items()):
        top = row * (SIDE + GAP)
        ImageDraw.Draw(sheet).text((4, top + SIDE // 2), name, fill="black", font=font, anchor="lm")
        for column, (frame, view) in enumerate((frame, view) for frame in frames for view in range(VIEWS)):
            found = make_view(frame, options, view).round().to(torch.uint8)[0].permute(1, 2, 0)
            sheet.paste(Image.fromarray(found.numpy()), (MARGIN + column * (SIDE + GAP), top))
    sheet.quantize(256, kmeans=4).save(FIGURE, optimize=True)


def milliseconds(stacks: Tensor, options: ViewOptions) -> float:
    """Least CPU time of one view of a batch."""
    times = []
    for view in range(REPEATS):
        begin = time.process_time()
        make_view(stacks, options, view)
        times.append(time.process_time() - begin)
    return 1e3 * min(times)


def main() -> None:
    """Draw, then measure, with the allocator settings that the commands have."""
    restart_with_allocator()
    torch.set_num_threads(1)
    draw()
    print(f"drawn: {FIGURE.relative_to(ROOT)}")
    generator = torch.Generator().manual_seed(SEED)
    shape = (ROWS, 3 * STACK, SIDE, SIDE)
    stacks = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    with TIMES.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("view", "rows", "stack", "size", "cpu_ms"))
        for name, options in choices().items():
            row = (name, ROWS, STACK, SIDE, f"{milliseconds(stacks, options):.0f}")
            writer.writerow(row)
            print(*row)


if __name__ == "__main__":
    main()
