"""The comparison as one HTML page that needs nothing beside it, and the pictures it is made of."""

from __future__ import annotations

import base64
import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

from agent.evaluation.comparison.as_text import interval, place, score
from agent.evaluation.comparison.figure_files import Chart
from agent.evaluation.comparison.records import Note
from agent.evaluation.comparison.run_media import Picture, imaginations, novelties, videos
from agent.evaluation.comparison.study import Study
from agent.evaluation.comparison.svg import inlined
from agent.evaluation.comparison.time_shares import TimeShares, time_shares
from agent.evaluation.comparison.visited_states import Exploration
from agent.evaluation.figure_style import looks_of, short_count, short_time
from agent.evaluation.published import PublishedScore
from agent.evaluation.text_tables import format_duration

PAGE_BYTES = 4_800_000
"""The page stays below 5 MB: what it shows beside numbers and curves gets the rest."""
_NOTHING = Exploration()


@dataclass(frozen=True)
class Page:
    """The page, and what it was made of beside curves.

    Attributes:
        html: the page.
        notes: what of that could not be read.
        shares: of time.
        captions: of the videos and strips that are in the page.
    """

    html: str
    notes: tuple[Note, ...]
    shares: list[TimeShares]
    captions: dict[str, list[str]]


def make_page(study: Study, drawn: Sequence[Chart], explored: Exploration = _NOTHING) -> Page:
    """Compose the page; videos and strips get the room that numbers and curves leave.

    Args:
        study: what it shows.
        drawn: pictures of the study.
        explored: what its runs visited, with pictures of its own.
    """
    drawn = [*drawn, *explored.charts]
    curves = study.run_set.curves
    shares, notes = time_shares(curves)
    room = (PAGE_BYTES - len(_render(study, drawn, explored, shares).encode())) * 3 // 4  # as base64
    moving, more = videos(curves, room // 2)
    notes += more
    room -= sum(len(each.content) for each in moving)
    strips, more = imaginations(curves, room)
    notes += more
    novel, more = novelties(curves, room - sum(len(each.content) for each in strips))
    notes += more
    notes += explored.notes
    study = replace(study, notes=(*study.notes, *notes))
    captions = {
        name: [each.caption for each in pictures]
        for name, pictures in (("videos", moving), ("imaginations", strips), ("novelties", novel))
    }
    page = _render(study, drawn, explored, shares, moving, strips, novel)
    return Page(page, tuple(notes), shares, captions)


def _render(
    study: Study,
    drawn: Sequence[Chart],
    explored: Exploration,
    shares: Sequence[TimeShares],
    moving: Sequence[Picture] = (),
    strips: Sequence[Picture] = (),
    novel: Sequence[Picture] = (),
) -> str:
    """The page as HTML: no script, no address that a browser would fetch."""
    import jinja2

    template = resources.files("agent.evaluation.comparison").joinpath("report.html")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "interval": interval,
        "score": score,
        "count": short_count,
        "embedded": _embedded,
        "duration": format_duration,
        "short_place": short_time if study.question.axis == "seconds" else short_count,
        "place": lambda at: place(at, study),
        "pretty": lambda value: json.dumps(value, indent=1, sort_keys=True),
    }
    return environment.from_string(template.read_text(encoding="utf-8")).render(
        study=study,
        looks=looks_of(study.run_set.variants),
        charts=_inline(drawn),
        explored=explored,
        shares=shares,
        videos=moving,
        strips=strips,
        novel=novel,
        published=_published(study),
        inf=math.inf,
    )


def _inline(drawn: Sequence[Chart]) -> dict[str, dict[str, list[Any]]]:
    """Pictures by kind and scope, as markup."""
    import markupsafe

    found: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for index, chart in enumerate(drawn):
        svg = chart.path.with_name(f"{chart.path.name}.svg").read_text(encoding="utf-8")
        markup = markupsafe.Markup(inlined(svg, f"c{index}", chart.description))
        found[chart.kind][chart.scope].append(markup)
    return found


def _published(study: Study) -> list[PublishedScore]:
    return [score for found in study.findings if not found.scope.is_aggregate for score in found.published]


def _embedded(picture: Picture) -> str:
    return f"data:image/{picture.kind};base64,{base64.b64encode(picture.content).decode()}"
