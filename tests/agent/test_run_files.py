from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.evaluation.run_files import RunError, read_mapping, read_yaml


def test_a_mapping_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("task: dmc/walker-walk\nseed: 3\n")
    assert read_mapping(tmp_path / "config.yaml", read_yaml) == {"task": "dmc/walker-walk", "seed": 3}


@pytest.mark.parametrize(
    ("parse", "content", "message"),
    [
        (read_yaml, None, "missing"),
        (read_yaml, b"task: [", "damaged"),
        (read_yaml, b"- a list\n", "expected a mapping"),
        (read_yaml, b"!!python/object/apply:builtins.dict []\n", "damaged"),
        (read_yaml, b"\xff\xfe\x00", "damaged"),
        (json.loads, b"{", "damaged"),
    ],
)
def test_damage_is_named(
    tmp_path: Path, parse: Callable[[str], Any], content: bytes | None, message: str
) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RunError, match=message) as error:
        read_mapping(path, parse)
    assert str(path) in str(error.value)
