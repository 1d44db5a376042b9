from __future__ import annotations

import errno
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from agent import checkpoint
from agent.checkpoint import FORMAT, CheckpointError, frames_of, latest, load, numbered, retain, save

ROOT = Path(__file__).parents[2]
TORCH_DTYPES = (
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
)


def assert_same(found: Any, expected: Any) -> None:
    """Equal in type, structure and every bit."""
    assert type(found) is type(expected), (found, expected)
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for key, value in expected.items():
            assert_same(found[key], value)
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, torch.Tensor):
        assert (found.dtype, found.shape, found.stride()) == (
            expected.dtype,
            expected.shape,
            expected.stride(),
        )
        assert (
            found.contiguous()
            .view(-1)
            .view(torch.uint8)
            .equal(expected.contiguous().view(-1).view(torch.uint8))
        )
    elif isinstance(expected, np.ndarray):
        assert (found.dtype, found.shape, found.tobytes()) == (
            expected.dtype,
            expected.shape,
            expected.tobytes(),
        )
    elif isinstance(expected, float):
        assert found.hex() == expected.hex()
    else:
        assert found == expected


def round_trip(tmp_path: Path, state: dict[Any, Any]) -> dict[Any, Any]:
    save(tmp_path / "state.safetensors", state)
    return load(tmp_path / "state.safetensors")


def test_plain_values_come_back(tmp_path: Path) -> None:
    state = {
        "none": None,
        "flags": [True, False],
        "ints": [0, -1, 2**64, 2**127 + 3, -(2**200)],
        "floats": [0.1, -0.0, 1e-308, 5e-324, 1.7976931348623157e308, math.inf, -math.inf, math.nan, 1.0],
        "text": "ä\u2028\0 'quoted' \U0001f600",
        "empty": [{}, [], (), ""],
        "nested": [[(1, (2, [3]))], {"a": {"b": {"c": None}}}],
        "dollar": {"$tensor": "0", "$dict": [["$x", 1]], "$y": {}},
        "one dollar": [{"$tensor": "0"}, {"$tuple": []}, {"$dict": 3}],
    }
    assert_same(round_trip(tmp_path, state), state)


def test_dict_keys_keep_type_and_order(tmp_path: Path) -> None:
    state = {"b": 1, "a": {3: "int", "3": "str", -1: {0: torch.ones(1)}}}
    assert_same(round_trip(tmp_path, state), state)


@pytest.mark.parametrize("dtype", TORCH_DTYPES, ids=str)
def test_tensors_come_back_bit_for_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    bits = torch.from_numpy(np.random.default_rng(0).integers(0, 256, 6 * 8, np.uint8))
    values = (bits % 2).bool() if dtype == torch.bool else bits.view(dtype)  # NaNs with any payload, too
    state = {
        "matrix": values[:6].reshape(2, 3),
        "scalar": values[0],
        "empty": values[:0].reshape(0, 4),
        "one": values[:1],
    }
    assert_same(round_trip(tmp_path, state), {key: value.clone() for key, value in state.items()})


@pytest.mark.parametrize("dtype", ["?", "u1", "i2", "i4", "i8", "f2", "f4", "f8"])
def test_arrays_come_back_bit_for_bit(dtype: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 2, 12).astype(dtype)
    state = {"matrix": values.reshape(3, 4), "scalar": np.array(values[0]), "empty": values[:0]}
    assert_same(round_trip(tmp_path, state), state)
    transposed = round_trip(tmp_path, {"x": state["matrix"].T, "y": state["matrix"][::-1]})
    assert np.array_equal(transposed["x"], state["matrix"].T)
    assert np.array_equal(transposed["y"], state["matrix"][::-1])


def test_loaded_arrays_may_be_changed(tmp_path: Path) -> None:
    loaded = round_trip(tmp_path, {"x": np.zeros(3), "y": torch.zeros(3)})
    loaded["x"][0] = loaded["y"][0] = 1


def test_views_and_shared_memory_are_saved_by_value(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    weight = torch.nn.Parameter(torch.ones(2))
    state = {"view": base[:, 1], "transposed": base.T, "base": base, "tied": [weight, weight]}
    loaded = round_trip(tmp_path, state)
    assert_same(loaded["view"], base[:, 1].clone())
    assert torch.equal(loaded["transposed"], base.T)
    assert_same(loaded["tied"], [torch.ones(2)] * 2)
    assert_same(loaded["base"], base)


def test_channels_last_is_kept(tmp_path: Path) -> None:
    weight = torch.randn(4, 3, 5, 5).contiguous(memory_format=torch.channels_last)
    assert_same(round_trip(tmp_path, {"x": weight})["x"], weight)


@pytest.mark.parametrize("name", ["PCG64", "MT19937", "Philox", "SFC64"])
def test_numpy_generators_go_on(name: str, tmp_path: Path) -> None:
    generator = np.random.Generator(getattr(np.random, name)(7))
    generator.integers(3, size=5, dtype=np.uint8)  # leaves half a word behind
    state = round_trip(tmp_path, {"rng": generator.bit_generator.state})["rng"]
    other = np.random.Generator(getattr(np.random, name)(0))
    other.bit_generator.state = state
    assert np.array_equal(generator.random(100), other.random(100))


def test_torch_generator_goes_on(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(3)
    torch.randn(5, generator=generator)
    state = round_trip(tmp_path, {"rng": generator.get_state()})["rng"]
    expected = torch.randn(100, generator=generator)
    assert torch.equal(torch.randn(100, generator=torch.Generator().set_state(state)), expected)


def training_step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    model(x).square().mean().backward()
    optimizer.step()


def test_model_and_optimizer_go_on_bit_for_bit(tmp_path: Path) -> None:
    def build() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(1)
        model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten())
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model, torch.optim.AdamW(model.parameters(), lr=1e-2, amsgrad=True)

    model, optimizer = build()
    for seed in range(4):
        training_step(model, optimizer, seed)
    state = round_trip(tmp_path, {"model": dict(model.state_dict()), "optimizer": optimizer.state_dict()})
    assert_same(state["optimizer"], optimizer.state_dict())

    other, other_optimizer = build()
    other.load_state_dict(state["model"])
    other_optimizer.load_state_dict(state["optimizer"])
    for seed in range(4, 8):
        training_step(model, optimizer, seed)
        training_step(other, other_optimizer, seed)
    assert_same(dict(other.state_dict()), dict(model.state_dict()))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({1, 2}, r"state\['x'\]\[1\] is a set"),
        (np.int64(3), r"state\['x'\]\[1\] is a int64"),
        ({1.5: 0}, r"state\['x'\]\[1\] has keys that are neither str nor int: \[1.5\]"),
        ({True: 0}, "has keys that are neither"),
        (np.array(["text"]), r"state\['x'\]\[1\]: "),
        pytest.param(object(), "is a object, which a checkpoint cannot hold", id="object"),
    ],
    ids=str,
)
def test_what_cannot_be_saved_is_named(value: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=message):
        save(tmp_path / "state", {"x": [0, value]})
    assert list(tmp_path.iterdir()) == []


def with_metadata(**changes: str) -> bytes:
    metadata = {"kind": "nearfar-checkpoint", "format": str(checkpoint.FORMAT), "structure": "{}"} | changes
    return safetensors.torch.save({"0": torch.zeros(1)}, metadata)


DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "truncated": lambda data: data[:-1],
    "cut in header": lambda data: data[:50],
    "longer": lambda data: data + b"x",
    "zeros": lambda data: bytes(len(data)),
    "huge header": lambda data: b"\xff" * 100,
    "pickle": lambda data: b"\x80\x04cos\nsystem\n(S'exit 1'\ntR.",
    "no json": lambda data: with_metadata(structure="{"),
    "deep json": lambda data: with_metadata(structure="[" * 100_000),
    "other tensor": lambda data: with_metadata(structure='{"$tensor": "1"}'),
    "no name": lambda data: with_metadata(structure='{"$tensor": []}'),
    "no pairs": lambda data: with_metadata(structure='{"$dict": [1]}'),
    "no tuple": lambda data: with_metadata(structure='{"$tuple": 3}'),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_damaged_file_is_named_with_the_remedy(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "checkpoint-000000001.safetensors"
    save(path, {"x": torch.arange(100), "y": [1, (2,)]})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        CheckpointError, match=rf"{path} is damaged.*delete it to go on from the one before"
    ) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_other_files_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(CheckpointError, match=r"cannot read checkpoint .*file \(No such file"):
        load(path)
    path.write_bytes(safetensors.torch.save({"x": torch.zeros(1)}))
    with pytest.raises(CheckpointError, match="no checkpoint of nearfar"):
        load(path)
    path.write_bytes(with_metadata(format="1"))
    with pytest.raises(
        CheckpointError, match=f"has format 1, this version reads {FORMAT}: use the version of nearfar that"
    ):
        load(path)


def test_latest_and_retain_follow_the_frames(tmp_path: Path) -> None:
    directory = tmp_path / "checkpoints"
    assert latest(directory) is None
    retain(directory)
    for frames in (900, 1_000_000_000, 80_000, 2_000):  # not in order, and one of ten digits
        save(numbered(directory, frames), {"frames": frames})
    save(directory / "best.safetensors", {"frames": 7})
    (directory / "checkpoint-000090000.safetensors.tmp").write_bytes(b"unfinished")
    newest = latest(directory)
    assert newest is not None
    assert newest.name == "checkpoint-1000000000.safetensors"
    assert load(newest) == {"frames": 1_000_000_000}
    retain(directory, keep=2)
    assert {path.name for path in directory.glob("*.safetensors")} == {
        "checkpoint-1000000000.safetensors",
        "checkpoint-000080000.safetensors",
        "best.safetensors",
    }


def test_milestones_are_retained(tmp_path: Path) -> None:
    """The first checkpoint at or after each multiple stays, however many are written later."""
    for frames in range(0, 130, 6):
        save(numbered(tmp_path, frames), {})
        retain(tmp_path, keep=2, keep_every=50)
    assert sorted(map(frames_of, tmp_path.iterdir())) == [54, 102, 120, 126]
    with pytest.raises(ValueError, match="not named as a numbered checkpoint"):
        frames_of(tmp_path / "best.safetensors")


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_full_disk_keeps_the_older_file(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "state.safetensors"
    save(path, {"x": 1})
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full_disk)
        with pytest.raises(OSError, match="No space left") as caught:
            save(path, {"x": 2})
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    assert load(path) == {"x": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.safetensors"]


WRITER = """
import torch
from agent.checkpoint import save
print("ready", flush=True)
k = 0
while True:
    k += 1
    save({path!r}, {{"k": k, "x": torch.full((2_000_000,), k)}})
"""


def test_killed_writer_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    program = WRITER.format(path=str(path))
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        while not path.exists():
            time.sleep(0.001)
        time.sleep(0.1)
        writer.send_signal(signal.SIGKILL)
    state = load(path)
    assert (state["x"] == state["k"]).all()


def test_structure_is_readable_json(tmp_path: Path) -> None:
    save(tmp_path / "state", {"frames": 3, "x": torch.zeros(2)})
    with safetensors.safe_open(tmp_path / "state", framework="pt") as file:
        assert json.loads(file.metadata()["structure"]) == {"frames": 3, "x": {"$tensor": "0"}}
