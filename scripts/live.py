"""A sweep on the screen: a table that is redrawn in place, or a line an event where there is no terminal."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection
from datetime import datetime
from typing import TextIO

from agent.sweeps.board import Board
from agent.sweeps.table import render

REDRAW_S = 1.0


class LiveView:
    """Prints events; on a terminal also the table, below all else."""

    def __init__(self, board: Board, stream: TextIO) -> None:
        """Nothing is printed yet."""
        self._board, self._stream = board, stream
        self._is_terminal = stream.isatty()
        self._lines = 0
        self._drawn_s = -REDRAW_S

    def event(self, text: str) -> None:
        """Print what has happened, above the table."""
        self._erase()
        print(f"{datetime.now():%H:%M:%S}  {text}", file=self._stream, flush=True)
        self._drawn_s = -REDRAW_S

    def refresh(self, going: Collection[str]) -> None:
        """Look at the runs, and draw the table afresh."""
        now_s = time.monotonic()
        if not self._is_terminal or now_s - self._drawn_s < REDRAW_S:
            return
        self._drawn_s = now_s
        self._board.look(going, now_s)
        size = shutil.get_terminal_size()
        lines = self._render(width=size.columns - 1, height=size.lines)  # a full line would break
        self._erase()
        print("\n".join(lines), file=self._stream, flush=True)
        self._lines = len(lines)

    def close(self) -> None:
        """Print the whole table for good."""
        self._board.look_at_all()
        self._erase()
        print("\n".join(self._render(width=None, height=None)), file=self._stream, flush=True)

    def _render(self, *, width: int | None, height: int | None) -> list[str]:
        return render(self._board.rows(), left_s=self._board.left_s(), width=width, height=height)

    def _erase(self) -> None:
        if self._lines:
            # Up to the first line of the table, and clear from there.
            print(f"\x1b[{self._lines}A\x1b[J", end="", file=self._stream, flush=True)
        self._lines = 0
