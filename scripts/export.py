"""`nearfar export`: an encoder as a file of its own, or as a program that runs without this project."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from configs.load import ConfigError
from configs.options import Options
from scripts.options import parse_flags


class ExportOptions(Options):
    """An encoder as a file of its own, or as a program that runs without this project."""

    source: Annotated[Path, tyro.conf.Positional]
    """Run directory of `nearfar train`, one of its checkpoints, or an encoder's file."""
    target: Annotated[Path, tyro.conf.Positional]
    """Where to: .safetensors (with a card, .json), or .pt2 for torch.export.load."""


def main(arguments: Sequence[str]) -> int:
    """Write; see `nearfar export --help`."""
    options = parse_flags(ExportOptions, "nearfar export", arguments)
    if options.target.suffix not in (".safetensors", ".pt2"):
        raise ConfigError(f"cannot tell what {options.target} is to be: name it .safetensors or .pt2")

    from agent.loading import read_encoder
    from world_model.encoder_file import save_encoder
    from world_model.export import export_encoder

    loaded = read_encoder(options.source)
    try:
        if options.target.suffix == ".pt2":
            export_encoder(options.target, loaded.encoder)
        else:
            save_encoder(options.target, loaded.encoder, loaded.card)
    except (NotADirectoryError, FileExistsError, IsADirectoryError, PermissionError) as error:
        raise ConfigError(f"cannot write {options.target} ({error.strerror}): give another path") from error
    print(f"encoder {loaded.fingerprint} ({loaded.card.method}): {options.target}")
    return 0
