"""Distractors of the pixels, and the text in which options, manifests and stores name them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BaseModel

from configs.names import offered_names

StrengthName = Literal["easy", "medium", "hard"]
NO_DISTRACTORS = "none"
CLIPS_STRENGTH: StrengthName = "medium"
"""Clips of the user lie over the scene as strongly as this, unless they say otherwise."""


class DistractorOptions(BaseModel, frozen=True, extra="forbid"):
    """Distractors of the pixels, by kind; as text `background=medium,camera=easy`, or `none`."""

    background: str | None = None
    """Moving pictures behind the scene: a strength, or the absolute path of a folder that holds some, which a
    colon and a strength may follow."""
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

    def __str__(self) -> str:
        """The text form; parsing it gives the same options."""
        return ",".join(f"{kind}={value}" for kind, value in self if value) or NO_DISTRACTORS


def split_background(choice: str) -> tuple[Path | None, StrengthName]:
    """The folder of a background, if it has one, and its strength."""
    if strength := _as_strength(choice):
        return None, strength
    folder, _, last = choice.rpartition(":")
    if folder and (strength := _as_strength(last)):
        return Path(folder), strength
    return Path(choice), CLIPS_STRENGTH


def _as_strength(text: str) -> StrengthName | None:
    return next((name for name in get_args(StrengthName) if name == text), None)


def _strength_or_folder(kind: str, value: str) -> str:
    if _as_strength(value):
        return value
    if kind == "background" and os.sep in value:
        folder, strength = split_background(value)
        path = os.path.abspath(os.path.expanduser(str(folder)))
        return path if strength == CLIPS_STRENGTH else f"{path}:{strength}"
    folder_hint = f" (a folder is written with a slash: .{os.sep}{value})" if kind == "background" else ""
    raise ValueError(
        f"unknown strength {value!r} of {kind}{offered_names(value, get_args(StrengthName))}{folder_hint}"
    )


DistractorText = Annotated[str, AfterValidator(lambda text: str(DistractorOptions.parse(text)))]
