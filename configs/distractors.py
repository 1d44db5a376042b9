"""Distractors of the pixels, and the text in which options, manifests and stores name them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BaseModel

from configs.names import offered_names

StrengthName = Literal["easy", "medium", "hard"]
NO_DISTRACTORS = "none"


class DistractorOptions(BaseModel, frozen=True, extra="forbid"):
    """Distractors of the pixels, by kind; as text `background=medium,camera=easy`, or `none`."""

    background: str | None = None
    """Moving pictures behind the scene: a strength, or the absolute path of a folder that holds some."""
    colour: StrengthName | None = None
    """Drifting colours of bodies and floor."""
    camera: StrengthName | None = None
    """Drifting viewpoint."""

    @classmethod
    def parse(cls, text: str) -> DistractorOptions:
        """Read the text form; `color` is accepted for `colour`, and paths are made absolute.

        Raises:
            ValueError: a kind or strength does not exist, or a kind is given twice.
        """
        found: dict[str, str] = {}
        for part in text.split(",") if text.strip() != NO_DISTRACTORS else ():
            name, _, value = (piece.strip() for piece in part.partition("="))
            kind = "colour" if name == "color" else name
            if not value:
                raise ValueError(
                    f"{part.strip()!r} is no distractor: write KIND=STRENGTH, "
                    f"for instance background=medium,camera=easy, or {NO_DISTRACTORS}"
                )
            if kind not in cls.model_fields:
                raise ValueError(f"unknown distractor {name!r}{offered_names(name, cls.model_fields)}")
            if kind in found:
                raise ValueError(f"{kind} is given twice: keep one of them")
            found[kind] = _strength_or_folder(kind, value)
        return cls.model_validate(found)

    @property
    def folder(self) -> Path | None:
        """The folder of backgrounds, if there is one."""
        chosen = self.background
        return Path(chosen) if chosen and chosen not in get_args(StrengthName) else None

    def __str__(self) -> str:
        """The text form; parsing it gives the same options."""
        return ",".join(f"{kind}={value}" for kind, value in self if value) or NO_DISTRACTORS


def _strength_or_folder(kind: str, value: str) -> str:
    if value in get_args(StrengthName):
        return value
    if kind == "background" and os.sep in value:
        return os.path.abspath(os.path.expanduser(value))
    folder = f" (a folder is written with a slash: .{os.sep}{value})" if kind == "background" else ""
    raise ValueError(
        f"unknown strength {value!r} of {kind}{offered_names(value, get_args(StrengthName))}{folder}"
    )


DistractorText = Annotated[str, AfterValidator(lambda text: str(DistractorOptions.parse(text)))]
