"""Foreign formats by name, and the way from and to the store, episode by episode."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, get_args

from agent.atomic import write_atomically
from envs.datasets.base import DatasetError, Reading, Sink, Source
from envs.datasets.exorl import ExorlSink, ExorlSource
from envs.datasets.images import ImagesSink, ImagesSource
from envs.datasets.minari import MinariSink, MinariSource, dataset_id_of
from envs.datasets.v_d4rl import Hdf5Sink, NpzSink, open_v_d4rl
from envs.episodes import EpisodeStore

FormatName = Literal["minari", "v_d4rl", "exorl", "images"]
Progress = Callable[[range], Iterable[int]]

SOURCES: dict[str, Callable[[Path, Reading], Source]] = {
    "minari": MinariSource,
    "v_d4rl": open_v_d4rl,
    "exorl": ExorlSource,
    "images": ImagesSource,
}
assert set(SOURCES) == set(get_args(FormatName))

PLAN = "import.json"
"""In the folder of an imported store: what is imported there, so that the same command goes on."""


def find_store(path: Path) -> EpisodeStore:
    """The store in a folder, or in the `episodes/` of a run's folder.

    Raises:
        DatasetError: there is none, or nothing in it.
        EpisodeError: `store.json` is damaged.
    """
    places = (each for each in (path, path / "episodes") if each.is_dir())
    folder = next((each for each in places if EpisodeStore(each).ids()), None)
    if folder is None:
        raise DatasetError(
            f"{path} holds no episodes: name a dataset, or the directory of a run that has some"
        )
    return EpisodeStore(folder)


def import_episodes(
    source: Source, target: Path, plan: dict[str, Any], progress: Progress
) -> tuple[int, int]:
    """Append those episodes of a source to a store that are not there yet.

    Args:
        source: where they come from.
        target: folder of the store.
        plan: what the import depends on, as JSON; a store with another plan is left alone.
        progress: goes through numbers of episodes.

    Returns:
        How many were imported now, and how many there are.

    Raises:
        DatasetError: one cannot be read or does not fit the others (those before it stay), or the folder
            holds something else.
    """
    store = EpisodeStore(target)
    _hold(target, plan)
    done = store.ids()[-1] + 1 if store.ids() else 0
    for index in progress(range(done, len(source))):
        episode = source.read(index)
        try:
            store.commit(episode)
        except ValueError as error:
            raise DatasetError(
                f"{source.name(index)} does not fit the episodes before it: {error}"
            ) from error
    return max(0, len(source) - done), len(store)


def export_episodes(
    store: EpisodeStore, target: Path, make: Callable[[Path], Sink], progress: Progress
) -> None:
    """Write all episodes of a store in another format, in a folder that appears when it is complete.

    Args:
        store: the episodes.
        target: the folder; must not exist, or be empty.
        make: a sink that writes into a folder.
        progress: goes through places in the store.

    Raises:
        DatasetError: there is something already, or the format cannot hold the episodes.
        EpisodeError: an episode is damaged.
    """
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise DatasetError(f"{target} exists: delete it, or give another target")
    partial = target.absolute().with_name(f"{target.absolute().name}.partial")
    try:
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
    except OSError as error:
        raise DatasetError(f"{partial} cannot be made ({error.strerror}): give another target") from error
    try:
        sink = make(partial)
        ids = store.ids()
        for place in progress(range(len(ids))):
            sink.write(place, store.read(ids[place]))
        sink.close()
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def make_sink(name: FormatName, target: Path, *, hdf5: bool, minari_root: Path) -> Callable[[Path], Sink]:
    """Makes sinks of a format.

    Args:
        name: the format.
        target: where the dataset is going to lie; Minari keeps its name inside.
        hdf5: flat HDF5 instead of npz; v_d4rl only.
        minari_root: where Minari keeps its datasets.

    Raises:
        DatasetError: there cannot be such a dataset.
    """
    if hdf5 and name != "v_d4rl":
        raise DatasetError(f"--hdf5 is for v_d4rl: leave it out for {name}")
    if name == "minari":
        dataset_id = dataset_id_of(target, minari_root)
        return lambda folder: MinariSink(folder, dataset_id)
    if name == "v_d4rl":
        return Hdf5Sink if hdf5 else NpzSink
    return {"exorl": ExorlSink, "images": ImagesSink}[name]


def _hold(target: Path, plan: dict[str, Any]) -> None:
    """Write down what is imported into a folder, or check that it is the same as before.

    Raises:
        DatasetError: the folder holds something else.
    """
    path = target / PLAN
    try:
        names = {each.name for each in target.iterdir()} if target.exists() else set()
        found = json.loads(path.read_bytes()) if path.exists() else None
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{target} cannot be used ({error}): give another target") from error
    if found is None and names - {f"{PLAN}.tmp", ".lock"}:
        raise DatasetError(f"{target} exists and holds no import: give another target, or an empty folder")
    if found is not None and found != plan:
        raise DatasetError(f"{target} holds an import of {found}, this is one of {plan}: give another target")
    if found is None:
        write_atomically(path, json.dumps(plan, indent=2))
