"""Heat maps of visits and their growth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agent.evaluation.figure_style import looks_of
from agent.evaluation.visits.pictures import draw_growth, draw_maps
from agent.evaluation.visits.state_axes import StateAxis
from agent.evaluation.visits.state_coverage import Stage, Visits

AXES = (
    StateAxis("hinge", 0, "rad", -np.pi, np.pi, is_periodic=True),
    StateAxis("slider", 1, "m", -2.0, 2.0),
)


def visits_of(*states: tuple[float, float], axes: tuple[StateAxis, ...] = AXES) -> Visits:
    visits = Visits(axes, 4)
    visits.add(np.array(states))
    return visits


def grid_of(picture: np.ndarray, panel: int, panels: int) -> np.ndarray:
    """Colours in the middle of the 4 x 4 cells of a panel, lowest row first; geometry in inches of 150."""
    left, side, bottom = 0.8 + panel * 3.0, 2.75, len(picture) / 150 - 0.62
    across = [round(150 * (left + side * (i + 0.4) / 4)) for i in range(4)]
    upward = [round(150 * (bottom - side * (i + 0.4) / 4)) for i in range(4)]
    assert panels * 3.0 + 0.8 < picture.shape[1] / 150
    return picture[np.ix_(upward, across)].astype(int)


def test_cells_are_where_the_states_are_and_darker_the_more_often(tmp_path: Path) -> None:
    """The first variable runs to the right, the second upwards; panels share their colours."""
    one = visits_of(*[(-3.0, -1.5)] * 7, *[(3.0, -1.5)] * 2, (-3.0, 1.5))
    other = visits_of(*[(3.0, 1.5)] * 10)
    draw_maps([("one", "facts", one), ("$\\frac$", "facts", other)], tmp_path / "maps" / "visits.png")
    with Image.open(tmp_path / "maps" / "visits.png") as image:
        picture = np.asarray(image.convert("RGB"))
    first, second = (grid_of(picture, panel, 2).sum(axis=2) for panel in (0, 1))
    paper = first[1, 1]
    assert paper > 3 * 240
    assert {(i, j) for i, j in np.argwhere(first != paper).tolist()} == {(0, 0), (0, 3), (3, 0)}
    assert first[0, 0] < first[0, 3] < first[3, 0] < paper
    assert np.argwhere(second != paper).tolist() == [[3, 3]]
    assert second[3, 3] < first[0, 0], "10 of 10 visits are darker than 7 of 10"


def test_a_range_that_nobody_knows_and_a_single_variable(tmp_path: Path) -> None:
    unknown = StateAxis("state_0", 0, is_squashed=True)
    draw_maps([("one", "", visits_of((0.1, 5.0), axes=(unknown,)))], tmp_path / "visits.png")
    assert (tmp_path / "visits.png").stat().st_size > 5000


def test_panels_of_other_variables_are_refused(tmp_path: Path) -> None:
    one, other = visits_of((0, 0)), visits_of((0, 0), axes=AXES[::-1])
    with pytest.raises(ValueError, match="the same one or two variables"):
        draw_maps([("one", "", one), ("other", "", other)], tmp_path / "visits.png")
    assert not (tmp_path / "visits.png").exists()


def test_the_same_drawing_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        draw_maps([("one", "", visits_of((0.3, 0.4)))], tmp_path / f"{name}.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_growth_is_drawn_over_frames(tmp_path: Path) -> None:
    looks = looks_of(["a", "b"])
    stages = [Stage(1, 1000, 10, 1.0), Stage(2, 2000, 15, 1.2)]
    draw_growth(tmp_path / "growth", "task", [("a", looks["a"], stages), ("", looks["a"], stages[:1])])
    text = (tmp_path / "growth.svg").read_text()
    for label in (">a<", ">visited cells<", ">environment frames<", ">2k<"):
        assert label in text, label
