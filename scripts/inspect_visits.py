"""Which states the episodes of runs and datasets visited: heat maps, numbers, and how these grew."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from configs.load import ConfigError

if TYPE_CHECKING:
    from agent.evaluation.visits.state_coverage import Survey

_LONGEST = 30  # letters of a name above a heat map


def show_visits(places: Sequence[Path], variables: tuple[str, str] | None, out: Path) -> bool:
    """Write `visits.png`, `visits-growth.png`, `visits.json` and `visits.csv`, and print the numbers.

    Args:
        places: runs or datasets of one domain, the first of which decides on the variables.
        variables: names of the two of the heat map; None: the first two of the task.
        out: where the files go.

    Returns:
        Whether there was something to draw: False where the first one records no physics state.

    Raises:
        ConfigError: a variable is not there, or the others have other variables.
        DatasetError: there are no episodes.
        EpisodeError: none can be read.
    """
    from agent.evaluation.figure_style import looks_of
    from agent.evaluation.visits import pictures
    from agent.evaluation.visits.state_coverage import as_json, growth_csv

    names = short_names(places)
    first = _survey(places[0], names[0], variables)
    if first is None:
        return False
    others = zip(places[1:], names[1:], strict=True)
    surveys = [first, *(_beside(first, place, name) for place, name in others)]
    _make(out)
    pictures.draw_surveys(surveys, out / "visits.png")
    looks = looks_of(names)
    lines = [(each.source, looks[each.source], each.coverage.stages) for each in surveys]
    pictures.draw_growth(out / "visits-growth", "visited cells", lines)
    text = json.dumps(as_json(surveys), indent=1)
    (out / "visits.json").write_text(f"{text}\n", encoding="utf-8")
    (out / "visits.csv").write_text(growth_csv(surveys), encoding="utf-8")
    for each in surveys:
        print(f"visits of {each.source}: {each.coverage.stages[-1]}")
    print(f"visited states: {out / 'visits.png'}, {out / 'visits.json'}, {out / 'visits.csv'}")
    return True


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"--out {directory} cannot be made ({error.strerror}): give another directory"
        ) from error


def _survey(place: Path, name: str, variables: Sequence[str] | None) -> Survey | None:
    from agent.evaluation.visits.state_coverage import VariableError, survey
    from envs.datasets.formats import find_store

    try:
        found = survey(find_store(place), name, variables, _bar)
    except VariableError as error:
        raise ConfigError(f"--variables: {error}") from error
    for problem in found.problems if found else ():
        print(f"nearfar: {problem}", file=sys.stderr)
    return found


def _beside(first: Survey, place: Path, name: str) -> Survey:
    """A survey of the same variables as the first one."""
    found = None
    with contextlib.suppress(ConfigError):  # without these variables it is of another domain
        found = _survey(place, name, [axis.name for axis in first.map.axes])
    if found is None or found.coverage.axes != first.coverage.axes:
        raise ConfigError(
            f"--beside {place}: its physics states have other variables than those of {first.coverage.task}"
        )
    return found


def short_names(places: Sequence[Path]) -> list[str]:
    """A name for each path: as few of its last parts, two at least, as tell all of them apart."""
    roots = [place.parent if place.name == "episodes" else place for place in map(Path.absolute, places)]
    parts = [root.parts[1:] for root in roots]
    for count in range(2, max(2, *map(len, parts)) + 1):
        names = ["/".join(each[-count:]) for each in parts]
        names = [name if len(name) <= _LONGEST else f"…{name[1 - _LONGEST :]}" for name in names]
        if len(set(names)) == len(names):
            return names
    return [f"{number}: {name}" for number, name in enumerate(names, start=1)]


def _bar(items: Sequence[int]) -> Iterable[int]:
    from tqdm import tqdm

    return tqdm(items, desc="reading", unit="episode", disable=None, leave=False)
