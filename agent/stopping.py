"""How long work is asked to end early."""

from __future__ import annotations

from typing import Protocol


class StopRequest(Protocol):
    """Something that may ask work to save and end."""

    @property
    def requested(self) -> bool:
        """Whether it does."""
