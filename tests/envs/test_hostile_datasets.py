"""Files that are damaged, or made to do harm: one clear line, and nothing else happens."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from envs.datasets import formats, hdf5, npz, provenance
from envs.datasets.base import DatasetError, Reading
from envs.datasets.exorl import ExorlSource
from envs.datasets.hdf5 import Hdf5Reader
from envs.datasets.images import ImagesSource
from envs.datasets.minari import MinariSource
from envs.datasets.npz import read_npz
from envs.datasets.v_d4rl import open_v_d4rl
from tests.datasets import make_store
from tests.envs.test_datasets import dreamer_rows, export

READING = Reading(task="dmc/walker-walk")


class Bomb:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def npy(array: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["action", "unasked"])
def test_nothing_is_unpickled(name: str, tmp_path: Path) -> None:
    objects = npy(np.array([Bomb(tmp_path / "harm")], object), allow_pickle=True)
    path = archive(tmp_path / "a.npz", {f"{name}.npy": objects})
    with pytest.raises(DatasetError, match=rf"a.npz .*{name} has dtype object"):
        read_npz(path, ["action"])
    plain = tmp_path / "b.npz"
    plain.write_bytes(objects)  # a pickle that is no archive at all
    with pytest.raises(DatasetError, match=r"b.npz is damaged or no archive of arrays"):
        read_npz(plain, ["action"])
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("name", ["../action.npy", "/action.npy", "a/action.npy", "action.pkl", "..npy"])
def test_names_of_other_places_are_refused(name: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", {name: npy(np.zeros(2))})
    with pytest.raises(DatasetError, match="is no name of an array"):
        read_npz(path, ["action"])


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_array_twice_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        for value in (1, 2):
            file.writestr("action.npy", npy(np.array([value])))
    with pytest.raises(DatasetError, match="it has 2 members, 1 of them different"):
        read_npz(tmp_path / "a.npz", ["action"])


def test_archive_that_would_unpack_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(tmp_path / "a.npz", action=np.zeros(100_000, np.uint8))
    assert len(read_npz(tmp_path / "a.npz", ["action"])["action"]) == 100_000
    monkeypatch.setattr(npz, "MOST_BYTES", 100_000)
    with pytest.raises(DatasetError, match="it would unpack to 100,128 bytes, more than 100,000"):
        read_npz(tmp_path / "a.npz", ["action"])


@pytest.mark.parametrize("shape", [(10**15,), (3,), (2**32, 2**32), (-1,)])
def test_array_that_is_not_as_large_as_it_says_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    path = archive(tmp_path / "a.npz", {"action.npy": header.getvalue() + bytes(8)})
    with pytest.raises(DatasetError, match=r"says float32|an array of shape"):
        read_npz(path, ["action"])


def test_words_that_nobody_asked_for_are_no_harm(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", action=np.ones(2), words=np.array(["walk"]))
    assert list(read_npz(tmp_path / "a.npz", ["action"])) == ["action"]
    with pytest.raises(DatasetError, match="words has dtype <U4"):
        read_npz(tmp_path / "a.npz", ["words"])


def test_changed_bytes_do_not_pass_the_checksum(tmp_path: Path) -> None:
    data = npy(np.arange(100, dtype=np.uint8))
    path = archive(tmp_path / "a.npz", {"action.npy": data})
    raw = bytearray(path.read_bytes())
    raw[raw.index(bytes(range(50, 60)))] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DatasetError, match="Bad CRC-32"):
        read_npz(path, ["action"])


Change = Callable[[dict[str, np.ndarray]], Any]
CHANGES: list[tuple[Change, str]] = [
    (lambda rows: rows.pop("reward"), "has no reward: is it of this format"),
    (lambda rows: rows.update(action=rows["action"][:-1]), "arrays have different lengths"),
    (lambda rows: rows.update(action=rows["action"] * 3), r"action reaches .*: expected \[-1, 1\]"),
    (lambda rows: rows["reward"].__setitem__(2, np.nan), "reward holds numbers that are not finite"),
    (lambda rows: rows.update(reward=np.full(5, 1e300)), "reward holds numbers that are not finite"),
    (lambda rows: rows.update(reward=np.zeros((5, 2))), "reward has shape"),
    (lambda rows: rows.update(image=rows["image"].astype(np.float32)), "images are float32"),
    (lambda rows: rows.update(image=rows["image"].repeat(3, -1)), "no stacks"),
    (lambda rows: rows.update(image=rows["image"][:, :8]), "images are 8 x 16: add --size N"),
    (lambda rows: rows.update(image=rows["image"][:-1]), "frame must be"),
    (lambda rows: rows.update(is_terminal=np.ones(5, np.bool_)), "goes on after it was terminated"),
    (lambda rows: rows.update(is_terminal=np.full(5, 2)), "neither 0 nor 1"),
    (lambda rows: rows.update({name: array[:1] for name, array in rows.items()}), "has no decision"),
    (lambda rows: rows.update(action=np.zeros(5, "S3")), "has dtype"),
]


@pytest.mark.parametrize(("change", "message"), CHANGES)
def test_what_is_no_episode_is_refused_with_its_name(change: Change, message: str, tmp_path: Path) -> None:
    rows = dreamer_rows(np.random.default_rng(0), 4)
    rows["reward"] = np.zeros(5)
    change(rows)
    np.savez(tmp_path / "a.npz", **rows)  # type: ignore[arg-type]
    with pytest.raises(DatasetError, match=rf"a\.npz.*{message}"):
        open_v_d4rl(tmp_path, READING).read(0)


@pytest.mark.parametrize("open_source", formats.SOURCES.values(), ids=formats.SOURCES)
def test_places_without_a_dataset_say_so(open_source: Any, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent", Path("/dev/null")):
        with pytest.raises(DatasetError, match=str(path)):
            open_source(path, READING)


def flat(path: Path, types: list[float]) -> Path:
    count = len(types)
    with h5py.File(path, "w") as file:
        file["step_type"], file["reward"], file["discount"] = types, np.zeros(count), np.ones(count)
        file["action"] = np.zeros((count, 2))
        file["observation"] = np.zeros((count, 3, 8, 8), np.uint8)
    return path


@pytest.mark.parametrize("types", [[0, 1, 2, 1], [1, 2, 0, 1, 2], [0, 1, 0, 1, 2], [0, 2, 1, 2], [1, 1]])
def test_flat_rows_that_make_no_whole_episodes_are_refused(types: list[float], tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="do not make whole episodes"):
        open_v_d4rl(flat(tmp_path / "a.hdf5", types), READING)


def redirect(file: h5py.File, kind: str, folder: Path) -> None:
    """Let `observation` come from elsewhere."""
    images, other = file["observation"][()], folder / "other.hdf5"
    del file["observation"]
    (folder / "raw").write_bytes(images.tobytes())
    with h5py.File(other, "w") as target:
        target["observation"] = images
    if kind == "external link":
        file["observation"] = h5py.ExternalLink(str(other), "/observation")
    elif kind == "soft link":
        file["kept"] = images
        file["observation"] = h5py.SoftLink("/kept")
    elif kind == "external storage":
        parts = [(str(folder / "raw"), 0, images.nbytes)]
        file.create_dataset("observation", images.shape, np.uint8, external=parts)
    else:
        layout = h5py.VirtualLayout(images.shape, np.uint8)
        layout[:] = h5py.VirtualSource(str(other), "observation", images.shape)
        file.create_virtual_dataset("observation", layout)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("external link", "a link out of its place"),
        ("soft link", "a link out of its place"),
        ("external storage", "stored outside of the file"),
        ("virtual", "stored outside of the file"),
    ],
)
def test_hdf5_reads_no_other_file(kind: str, message: str, tmp_path: Path) -> None:
    path = flat(tmp_path / "a.hdf5", [0, 1, 2])
    with h5py.File(path, "a") as file:
        redirect(file, kind, tmp_path)
        assert file["observation"][()].shape == (3, 3, 8, 8), "h5py itself would follow"
    source = open_v_d4rl(path, READING)
    with pytest.raises(DatasetError, match=message):
        source.read(0)
    source.close()


def test_hdf5_reads_numbers_of_sensible_size_alone(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file.create_dataset("huge", (10**14,), np.uint8, chunks=(1024,))
        file.create_dataset("chunk", (4,), np.uint8, chunks=(2**31,), maxshape=(None,))
        file["text"] = "words"
        file["texts"] = ["words", "more"]
        file["reference"] = file["text"].ref
        file.create_dataset("structure", (2,), [("a", "f4"), ("b", "i4")])
        file["group/inner"] = np.zeros(2)
    reader = Hdf5Reader(tmp_path / "a.hdf5")
    for name in ("huge", "chunk"):
        with pytest.raises(DatasetError, match=f"{name}: would be .* bytes, more than 1,073,741,824"):
            reader.array(name)
    for name in ("text", "texts", "reference", "structure"):
        with pytest.raises(DatasetError, match=f"{name}: has dtype"):
            reader.array(name)
    for name in ("group", "absent", "group/../group/inner", "group//inner"):
        with pytest.raises(DatasetError, match=f"{name}: is"):
            reader.array(name)
    assert reader.array("group/inner").tolist() == [0, 0], "it goes on after an error"
    reader.close()


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import time; time.sleep(60)", "does not come to an end within 0.5 s"),
        ("import os; os.kill(os.getpid(), 11)", "cannot read it"),
        ("raise SystemExit(3)", "cannot read it"),
    ],
)
def test_library_that_hangs_or_dies_is_an_error_of_the_file(
    program: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(program)
    monkeypatch.setattr(hdf5, "_WORKER", worker)
    monkeypatch.setattr(hdf5, "_PATIENCE_S", 0.5 if "sleep" in program else 60.0)
    with pytest.raises(DatasetError, match=rf"a\.hdf5 is damaged.*{message}"):
        Hdf5Reader(flat(tmp_path / "a.hdf5", [0, 2]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"total_episodes": "many"}, "metadata.json is damaged"),
        ({"total_episodes": -1}, "total_episodes must be a number above 0"),
        ({"data_format": "arrow"}, "only hdf5 is read"),
        ({"observation_space": "{"}, "observation_space is damaged"),
        ({"observation_space": "[" * 100_000}, "observation_space is damaged"),
        ({"observation_space": "7"}, "neither images nor numbers"),
        ({"observation_space": '{"type": "Box", "shape": [[]]}'}, "neither images nor numbers"),
        ({"action_space": '{"type": "Text"}'}, "type Text cannot be read"),
        ({"action_space": '{"type": "Box", "low": -1, "high": null}'}, "not bounded|has no high"),
        ({"action_space": '{"type": "Box", "low": [-1, -1, -1], "high": [1, 1, 1]}'}, "has 3 entries"),
        ({"action_space": '{"type": "Discrete"}'}, "no number of choices"),
        ({"total_episodes": 9}, "episode_8.*is not there"),
    ],
)
def test_metadata_of_minari_is_not_trusted(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    export(make_store(tmp_path / "store", 1, size=32), "minari", tmp_path / "there-v0")
    path = tmp_path / "there-v0" / "data" / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(DatasetError, match=message):
        source = MinariSource(tmp_path / "there-v0", READING)
        try:
            source.read(len(source) - 1)
        finally:
            source.close()


def huge_png(side: int) -> bytes:
    """A picture that says that it is enormous, and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100)))


@pytest.mark.parametrize("case", ["truncated", "text", "huge", "larger", "empty", "other format", "link"])
def test_images_that_are_none_are_refused(case: str, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)).save(buffer, "PNG")
    good, bad = buffer.getvalue(), tmp_path / "1.png"
    (tmp_path / "0.png").write_bytes(good)
    data = {"truncated": good[:200], "text": b"text", "huge": huge_png(8000), "larger": huge_png(10**6)}
    if case == "link":
        bad.symlink_to("absent")
        bad = tmp_path  # a link to nothing is no image, and one image is no episode
    else:
        bad.write_bytes(data.get(case, b"%!PS-Adobe" if case == "other format" else b""))
    with pytest.raises(DatasetError, match=str(bad)):
        ImagesSource(tmp_path, READING).read(0)


def test_enormous_image_is_not_unpacked(tmp_path: Path) -> None:
    for name in ("0.png", "1.png"):
        (tmp_path / name).write_bytes(huge_png(8000))
    with pytest.raises(DatasetError, match=r"0\.png is damaged or no image \(8000 x 8000 is too large"):
        ImagesSource(tmp_path, READING).read(0)


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "{}",
        '{"name": "a", "info": {}}',
        '{"name": "a", "info": {"task": 1}}',
        "[" * 100_000,
    ],
)
def test_damaged_provenance_is_named_with_its_line(line: str, tmp_path: Path) -> None:
    export(make_store(tmp_path / "store", 1), "v_d4rl", tmp_path / "there")
    with (tmp_path / "there" / provenance.FILE).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DatasetError, match=r"nearfar.jsonl, line 2 is damaged"):
        open_v_d4rl(tmp_path / "there", READING)


@pytest.mark.parametrize(
    ("name", "value"), [("action_repeat", 0), ("look", "odd"), ("seed", -1), ("lane", True), ("versions", [])]
)
def test_provenance_that_cannot_be_is_refused(name: str, value: Any, tmp_path: Path) -> None:
    info = provenance.to_json(make_store(tmp_path, 1).read(0).info)
    assert provenance.to_json(provenance.from_json(info)) == info
    with pytest.raises(ValueError, match=name):
        provenance.from_json(info | {name: value})


def mutate(path: Path, generator: random.Random) -> None:
    """Flip some bytes of a file, or cut it short."""
    data = bytearray(path.read_bytes())
    for _ in range(generator.choice([1, 3, 30])):
        data[generator.randrange(len(data))] = generator.randrange(256)
    if generator.random() < 0.3:
        del data[generator.randrange(len(data)) :]
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "rounds", "hdf5_file"),
    [
        ("v_d4rl", 150, False),
        ("exorl", 100, False),
        ("images", 100, False),
        ("minari", 12, False),
        ("v_d4rl", 8, True),
    ],
)
def test_random_damage_is_an_error_or_none(
    name: str, rounds: int, hdf5_file: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is flipped or cut, there is an episode in the end, or the kind of error that is promised."""
    monkeypatch.setattr(hdf5, "_PATIENCE_S", 5.0)
    export(make_store(tmp_path / "store", 1, size=32), name, tmp_path / "good-v0", hdf5=hdf5_file)
    outcomes = {"read": 0, "refused": 0}
    for seed in range(rounds):
        generator, bad = random.Random(seed), tmp_path / "bad-v0"
        shutil.copytree(tmp_path / "good-v0", bad)
        files = sorted(path for path in bad.rglob("*") if path.is_file())
        mutate(generator.choice(files), generator)
        try:
            source = formats.SOURCES[name](bad, READING)
            try:
                assert source.read(0).steps >= 1
            finally:
                source.close()
            outcomes["read"] += 1
        except DatasetError as error:
            assert str(bad) in str(error) and "\n" not in str(error)
            outcomes["refused"] += 1
        shutil.rmtree(bad)
    assert outcomes["refused"] > rounds / 4


def test_physics_of_other_shapes_are_refused(tmp_path: Path) -> None:
    rows = {"action": np.zeros((5, 1)), "reward": np.zeros(5), "discount": np.ones(5), "physics": np.zeros(4)}
    np.savez(tmp_path / "a.npz", **rows)  # type: ignore[arg-type]
    with pytest.raises(DatasetError, match=r"a\.npz holds no episode: physics has shape"):
        ExorlSource(tmp_path, READING).read(0)
