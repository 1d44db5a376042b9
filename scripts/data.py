"""`nearfar data`: datasets of other projects in and out, and what a dataset holds."""

from __future__ import annotations

import difflib
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import tyro

from configs.load import ConfigError
from configs.options import Options, Positive
from scripts.options import parse_flags

if TYPE_CHECKING:
    import numpy as np

    from envs.datasets.base import Reading
    from envs.episodes import EpisodeStore

FormatName = Literal["minari", "v_d4rl", "exorl", "images"]
Item = TypeVar("Item")

SHEET = "contact-sheet.png"
_SIZE = 64  # of frames that are drawn from physics states


class ImportOptions(Options):
    """Turn a dataset of another project into episodes."""

    format: Annotated[FormatName, tyro.conf.Positional, tyro.conf.arg(metavar="FORMAT")]
    """What SOURCE is: minari, v_d4rl, exorl, or images (folders of PNG, JPEG or GIF files)."""
    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """Folder of the dataset, or one of its files."""
    target: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
    """New folder for the episodes; an interrupted import goes on."""
    task: str | None = None
    """What task it is of; unset: as SOURCE or its path says."""
    look: Literal["fast", "original"] | None = None
    """How frames are, or are drawn; unset: as SOURCE says, else fast for exorl, original for the others."""
    action_repeat: Positive | None = None
    """Frames a decision lasts; unset: as SOURCE says, else 2 for v_d4rl and 1 for the others."""
    size: Positive | None = None
    """Height and width of frames; unset: 64 where they are drawn (exorl), else as they are."""
    image: str | None = None
    """Which of several images in an observation (minari)."""


class ExportOptions(Options):
    """Write episodes as a dataset of another project."""

    format: Annotated[FormatName, tyro.conf.Positional, tyro.conf.arg(metavar="FORMAT")]
    """What TARGET becomes: minari, v_d4rl, exorl, or images (a folder of PNG files an episode)."""
    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """Folder of episodes, or the directory of a run."""
    target: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
    """New folder for the dataset; it appears when it is complete."""
    hdf5: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Flat HDF5 instead of npz, as the 84 px part of v_d4rl."""


class InspectOptions(Options):
    """Sizes, returns and ranges of a dataset, and a contact sheet."""

    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """Folder of episodes, or the directory of a run."""
    sheet: Path | None = None
    """Where the contact sheet goes (PNG); unset: contact-sheet.png beside the episodes."""
    as_json: Annotated[bool, tyro.conf.arg(name="json"), tyro.conf.FlagCreatePairsOff] = False
    """Print JSON alone."""


class VerifyOptions(Options):
    """Check every episode against its checksum and the rules that all episodes keep."""

    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """Folder of episodes, or the directory of a run: its own ones, and those it has taken over."""


def main(arguments: Sequence[str]) -> int:
    """Dispatch; see `nearfar data --help`."""
    action, *rest = arguments or ["--help"]
    if action in ("-h", "--help"):
        print(_usage())
        return 0
    if action not in _ACTIONS:
        near = difflib.get_close_matches(action, _ACTIONS, n=1) or list(_ACTIONS)
        raise ConfigError(f"unknown action {action!r} of nearfar data; perhaps you meant {' or '.join(near)}")
    kind, act = _ACTIONS[action]
    return act(parse_flags(kind, f"nearfar data {action}", rest))


def _import(options: ImportOptions) -> int:
    from envs.datasets.formats import SOURCES, import_episodes
    from scripts.run_directory import lock

    if options.image is not None and options.format != "minari":
        raise ConfigError(f"--image is for minari: leave it out for {options.format}")
    plan = options.model_dump(mode="json", exclude={"target"}) | {"source": str(options.source.resolve())}
    source = SOURCES[options.format](options.source, _reading(options))
    _make_directory(options.target)
    try:
        with lock(options.target):
            new, total = import_episodes(source, options.target, plan, _bar("importing"))
    finally:
        source.close()
    for note in source.notes:
        print(f"nearfar: {note}", file=sys.stderr)
    print(f"{new:,} episodes imported, {total:,} in {options.target}")
    return 0


def _reading(options: ImportOptions) -> Reading:
    from envs.datasets.base import Reading

    task = options.task
    if task is not None:
        task = _canonical(task) or task
        if _canonical(task) is None:
            print(f"nearfar: no task {task!r} is known here; it is kept as a label", file=sys.stderr)
    return Reading(
        task=task,
        look=options.look,
        action_repeat=options.action_repeat,
        size=options.size,
        image=options.image,
        canonical=_canonical,
        draw=_drawer(options.size or _SIZE) if options.format == "exorl" else None,
    )


def _canonical(name: str) -> str | None:
    from envs.registry import TaskError, canonical_task

    try:
        return canonical_task(name)
    except TaskError:
        return None


def _drawer(size: int) -> Callable[[str, str, np.ndarray], np.ndarray]:
    """Draws physics states; the environment of the last task and look is kept."""
    kept: dict[tuple[str, str], Any] = {}

    def draw(task: str, look: str, physics: np.ndarray) -> np.ndarray:
        import numpy as np

        from envs import make_env

        if not task.startswith("dmc/"):
            raise ConfigError(
                f"physics states of {task} cannot be drawn: only those of dm_control's tasks can"
            )
        if (task, look) not in kept:
            for env in kept.values():
                env.close()
            kept.clear()
            kept[task, look] = make_env(task, size=size, look=look, action_repeat=1, stack=1).unwrapped
        return np.stack([kept[task, look].draw(state) for state in physics])

    return draw


def _export(options: ExportOptions) -> int:
    from envs.datasets.formats import export_episodes, find_store, make_sink

    store = find_store(options.source)
    root = Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets")
    make = make_sink(options.format, options.target, hdf5=options.hdf5, minari_root=root)
    export_episodes(store, options.target, make, _bar("exporting"))
    print(f"{len(store):,} episodes exported to {options.target}")
    return 0


def _inspect(options: InspectOptions) -> int:
    from envs.datasets.formats import find_store
    from envs.datasets.summary import as_text, draw_sheet, summarise

    store = find_store(options.data)
    summary = summarise(store, _bar("reading"))
    is_drawn = all(summary["frame_shape"])
    sheet = (options.sheet or store.path / SHEET) if is_drawn else None
    if sheet is not None:
        try:
            draw_sheet(store, sheet)
        except OSError as error:
            if options.sheet is not None:
                raise ConfigError(
                    f"--sheet {sheet} cannot be written ({error.strerror}): give another file"
                ) from error
            print(f"nearfar: no contact sheet ({error.strerror}): add --sheet FILE", file=sys.stderr)
            sheet = None
    summary["sheet"] = sheet and str(sheet)
    print(json.dumps(summary) if options.as_json else as_text(summary))
    if sheet is not None and not options.as_json:
        print(f"\ncontact sheet: {sheet}")
    return 0


def _verify(options: VerifyOptions) -> int:
    from envs.datasets.formats import find_store
    from envs.episodes import EARLIER, EpisodeError, EpisodeStore

    try:
        stores = [find_store(options.data)]
        earlier = EpisodeStore(options.data / EARLIER)
    except EpisodeError as error:
        print(error)
        return 1
    if len(earlier):
        stores.append(earlier)
    damaged = [_verify_store(store) for store in stores]
    return 1 if any(damaged) else 0


def _verify_store(store: EpisodeStore) -> int:
    """Name what is damaged; returns how many episodes are."""
    from envs.datasets.checking import problems_of

    damaged = 0
    for identifier in _bar("verifying")(store.ids()):
        problems = list(problems_of(store, identifier))
        damaged += bool(problems)
        for problem in problems:
            print(problem)
    print(
        f"{len(store):,} episodes in {store.path}: "
        + (f"{damaged:,} are not sound" if damaged else "all sound")
    )
    return damaged


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{path} cannot be made ({error.strerror}): give another target") from error
    if not os.access(path, os.W_OK):
        raise ConfigError(f"{path} is not writable: give another target")


def _bar(name: str) -> Callable[[Sequence[Item]], Iterable[Item]]:
    """Goes through items; on a terminal, a bar shows how far."""
    from tqdm import tqdm

    return lambda items: tqdm(items, desc=name, unit="episode", disable=None, leave=False)


_ACTIONS: dict[str, tuple[type[Options], Callable[[Any], int]]] = {
    "import": (ImportOptions, _import),
    "export": (ExportOptions, _export),
    "inspect": (InspectOptions, _inspect),
    "verify": (VerifyOptions, _verify),
}


def _usage() -> str:
    calls = ("import FORMAT SOURCE TARGET", "export FORMAT SOURCE TARGET", "inspect DATA", "verify DATA")
    rows = [f"  {call:30}{kind.__doc__}" for call, (kind, _) in zip(calls, _ACTIONS.values(), strict=True)]
    return "\n".join(
        [
            "usage: nearfar data ACTION [OPTIONS]",
            "",
            "Datasets: folders of episodes, as `collect` and `train` write them.",
            "",
            "actions:",
            *rows,
            "",
            "formats: minari, v_d4rl, exorl, images",
            "",
            "nearfar data ACTION --help lists an action's options.",
        ]
    )
