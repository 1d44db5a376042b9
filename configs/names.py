"""What could have been meant by a name that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def near_names(name: str, names: Iterable[str]) -> str:
    """`; perhaps you meant ...` with names like this one, or nothing where there are none."""
    found = difflib.get_close_matches(name, list(names))
    return f"; perhaps you meant {' or '.join(found)}" if found else ""


def offered_names(name: str, names: Iterable[str]) -> str:
    """The same, and `; there are ...` with all names where none is like this one."""
    names = list(names)
    return near_names(name, names) or f"; there are {', '.join(names)}"
