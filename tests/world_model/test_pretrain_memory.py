"""What batches beyond memory take: each program fails where its promise does not hold."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LIMIT = """
import resource
import torch

torch.set_num_threads(1)

def allow(mib):
    used = int(open("/proc/self/statm").read().split()[5]) * resource.getpagesize()
    most = used + mib * 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (most, resource.RLIM_INFINITY))

def fits(call, mib):
    allow(mib)
    try:
        call()
        return True
    except RuntimeError as error:
        assert "alloc" in str(error), error
        return False
"""

TILES = """
from world_model.losses import nt_xent
from world_model.nearness import Surroundings

def learn(tile, rows=3072):
    views = [torch.randn(rows, 8, requires_grad=True) for _ in range(2)]
    place = torch.arange(2 * rows)
    near = Surroundings(place // 50, place % 50 - 3, place % 50 + 3, place // 50, place % 50)
    nt_xent(*views, leave_out=near, tile=tile).mean().backward()

learn(256, 300)
print(fits(lambda: learn(256), 48), fits(lambda: learn(None), 48))
"""  # 6144 x 6144 logits are 144 MiB, and 256 of their rows 6

CHUNKS = """
from tests.points import config_of, drawn, method_of
from world_model.pretrain.gradients import accumulate
from world_model.pretrain.parallel import Alone
from world_model.pretrain.views import Unchanged

config = config_of(
    "simclr", batch={"size": 1024}, pairs={"hidden_dim": 32, "projection_dim": 16, "tile": 64}
)
method, samples = method_of(config).float(), drawn(config, 0)

def learn(chunk, rows=1024):
    accumulate(method, samples.chunk(0, rows), Unchanged(), Alone(), chunk=chunk)

learn(32, 64)
print(fits(lambda: learn(32), 32), fits(lambda: learn(0), 32))
"""  # 2048 stacks of 6 x 32 x 32 as float32 are 48 MiB, and what the convolutions make of them comes on top


@pytest.mark.parametrize("program", [TILES, CHUNKS], ids=["tiles", "chunks"])
def test_what_does_not_fit_whole_fits_in_pieces(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMIT + program],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "False"]
