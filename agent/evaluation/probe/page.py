"""What was found about encoders as one HTML page that needs nothing beside it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from agent.evaluation.probe.data import ProbeData
from agent.evaluation.probe.measures import GAPS, Probe, columns, shown


def make_page(
    probes: Mapping[str, Probe], data: ProbeData, about: Mapping[str, str], pictures: Mapping[str, Path]
) -> str:
    """The page: no script, no address that a browser would fetch.

    Args:
        probes: by the name of the encoder.
        data: what they were measured on.
        about: what each encoder is, in words.
        pictures: caption -> PNG; those that do not exist are left out.
    """
    import jinja2

    source = resources.files("agent.evaluation.probe").joinpath("page.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"shown": shown}
    images = {
        caption: f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
        for caption, path in pictures.items()
        if path.is_file()
    }
    return environment.from_string(source).render(
        probes=probes, data=data, about=about, images=images, columns=columns(probes), gaps=GAPS
    )
