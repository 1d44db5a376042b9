"""How this project's pictures look: colours, size, legend, and files that stay the same."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito's colours, which people with any colour vision can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK, GREY, EDGE, FAINT = "#24292f", "#6e7781", "#afb8c1", "#e4e7eb"
_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "text.color": INK,
    "axes.edgecolor": EDGE,
    "axes.labelcolor": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
}

WIDTH = 4.8  # inches: text of 10 points stays readable where a phone shows the picture in 3.4
_LEFT, _TOP, _BELOW, _LEGEND_ROW = 0.72, 0.42, 0.60, 0.20
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)))  # variants beyond the colours
_LONGEST = 44

Look = tuple[str, Any]  # colour and dashes
Legend = Sequence[tuple[Any, str]]  # artists and what they stand for


@contextmanager
def new_figure(path: Path | str, width: float, height: float) -> Iterator[Figure]:
    """A figure that is written as PNG when the block ends; the same drawing gives the same bytes.

    Args:
        path: the file; its directory is made.
        width: in inches of 150 pixels.
        height: likewise.
    """
    with styled_figure(width, height) as figure:
        yield figure
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png", metadata={"Software": None})


@contextmanager
def styled_figure(width: float, height: float) -> Iterator[Figure]:
    """A figure that looks as all of them do; saving it is up to the block.

    Args:
        width: in inches of 150 pixels.
        height: likewise.
    """
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.style.context(["default", _STYLE]):  # whatever the user's own settings are
        figure = Figure(figsize=(width, height), dpi=150, facecolor="white")
        FigureCanvasAgg(figure)
        yield figure


def looks_of(variants: Sequence[str]) -> dict[str, Look]:
    """Colour and dashes of each variant, the same in all pictures."""
    return {
        variant: (COLOURS[index % len(COLOURS)], _DASHES[index // len(COLOURS) % len(_DASHES)])
        for index, variant in enumerate(variants)
    }


@contextmanager
def picture(
    path: Path, title: str, *, rows: int, height: float = 2.7, left: float = _LEFT, right: float = 0.2
) -> Iterator[tuple[Axes, list[tuple[Any, str]]]]:
    """Axes with a title above and a legend below, written as PNG and SVG when the block ends.

    Args:
        path: of both files, without suffix; with `.png`, of that alone; the directory is made.
        title: above the axes.
        rows: entries that the legend will have.
        height: of the axes, in inches.
        left: margin in inches, for the labels of the y-axis.
        right: margin in inches, for labels beside the axes.

    Yields:
        The axes, and the legend's entries, to be filled.
    """
    below = _BELOW + _LEGEND_ROW * rows
    whole = _TOP + height + below
    with styled_figure(WIDTH, whole) as figure:
        axes = figure.add_axes((left / WIDTH, below / whole, (WIDTH - left - right) / WIDTH, height / whole))
        axes.grid(color=FAINT, linewidth=0.9)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(length=0, pad=5, labelsize=10.5)
        legend: list[tuple[Any, str]] = []
        yield axes, legend
        figure.text(
            0.12 / WIDTH, 1 - 0.21 / whole, shortened(title), fontsize=12.5, fontweight="bold", va="center"
        )
        _draw_legend(figure, legend, whole)
        _save(figure, path)


def _draw_legend(figure: Figure, legend: Legend, height: float) -> None:
    """Below the axes; `height` of the figure in inches."""
    if legend:
        figure.legend(
            [artist for artist, _ in legend],
            [shortened(text) for _, text in legend],
            loc="lower left",
            bbox_to_anchor=(0.1 / WIDTH, 0.02 / height),
            frameon=False,
            fontsize=10.5,
            borderaxespad=0,
            labelspacing=0.35,
        )


def band_key() -> tuple[Any, str]:
    """Entry of a legend for what bands around curves are."""
    from matplotlib.patches import Patch

    return Patch(facecolor=GREY, alpha=0.3, linewidth=0), "band: 95%, pointwise"


def shortened(text: str) -> str:
    """A name as it fits into a picture; pictures skip names that begin with an underscore."""
    text = " ".join(text.split())
    text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    return f" {text}" if text.startswith("_") else text


@lru_cache(maxsize=1024)
def fitted(text: str, inches: float, size: float) -> str:
    """A name as it fits beside the axes: what is too long loses its middle, since names often begin alike.

    Args:
        text: the name.
        inches: room for it.
        size: of its letters, in points.
    """
    text, kept = " ".join(text.split()), len(text)
    cut = text
    while inches_of(cut, size) > inches and kept > 2:
        kept -= 1
        cut = f"{text[: kept // 2].rstrip()}…{text[-((kept + 1) // 2) :].lstrip()}"
    return cut


def inches_of(text: str, size: float) -> float:
    """Width of a line of text, of letters of that many points."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = get_font(findfont(FontProperties(family=str(_STYLE["font.family"]))))
    font.set_size(size, 72)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of letters that the font lacks, drawing warns by itself
        font.set_text(text)
    return float(font.get_width_height()[0]) / 64 / 72


def short_count(value: float) -> str:
    """A number of frames or updates as 800, 20k or 1.5M."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}"


def short_time(seconds: float) -> str:
    """Seconds as 40 s, 25 min or 1.5 h."""
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= size * 1.5:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.0f} s"


def _save(figure: Figure, path: Path) -> None:
    import matplotlib
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)  # a name may hold dollar signs
    path.parent.mkdir(parents=True, exist_ok=True)
    is_alone = path.suffix == ".png"
    png = path if is_alone else path.with_name(f"{path.name}.png")
    figure.savefig(png, format="png", metadata={"Software": None})
    if is_alone:
        return
    with matplotlib.rc_context({"svg.hashsalt": "nearfar", "svg.fonttype": "none"}):
        metadata = {"Date": None, "Creator": None}
        figure.savefig(path.with_name(f"{path.name}.svg"), format="svg", metadata=metadata)
