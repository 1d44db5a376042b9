"""How this project's pictures look."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
