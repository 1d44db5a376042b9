"""Imports point one way (DESIGN.md, section 2), and importing a package costs nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("agent", "configs", "envs", "scripts", "world_model")

# They import nothing of the project but one another, and anyone may import them.
FOUNDATIONS = ("agent.atomic", "agent.checkpoint", "agent.logger", "agent.seeding", "agent.stopping")
EXPERIENCE = (
    "envs.spec",
    "envs.recording",
    "envs.episodes",
    "envs.positions",
    "envs.windows",
    "envs.datasets",
    "envs.state",
)
OPTIONS = (
    "configs.schema",
    "configs.options",
    "configs.control",
    "configs.world_model",
    "configs.curiosity",
    "configs.distractors",
    "configs.names",
    "configs.views",
    "configs.pretrain",
)

# Module or package -> what it may import besides itself and the foundations; the longest prefix counts.
ALLOWED: dict[str, tuple[str, ...]] = {
    "configs": (),
    "envs": OPTIONS,
    **dict.fromkeys(EXPERIENCE, (*EXPERIENCE, *OPTIONS)),
    "world_model": (*EXPERIENCE, *OPTIONS),
    "agent": ("world_model", *EXPERIENCE, "configs"),
    "scripts": ROOMS,
}


def inside(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def modules() -> dict[str, Path]:
    names = {}
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            names[".".join(parts).removesuffix(".__init__")] = path
    return names


def imported(tree: ast.AST, known: set[str]) -> Iterator[str]:
    """Modules that are imported anywhere in a file; `from a import b` is `a.b` where that is a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in known else node.module


def back_edges(module: str, source: str, known: set[str]) -> list[str]:
    """The imports of a module that point the wrong way."""
    room = module.partition(".")[0]
    if module in FOUNDATIONS:
        allowed: tuple[str, ...] = FOUNDATIONS
    else:
        rule = max((name for name in ALLOWED if inside(module, name)), key=len)
        own = () if rule in EXPERIENCE else (room,)
        allowed = (*ALLOWED[rule], *own, *FOUNDATIONS)
    return [
        name
        for name in imported(ast.parse(source), known)
        if name.partition(".")[0] in (*ROOMS, "tests", "benchmarks")
        and not any(inside(name, package) for package in allowed)
    ]


@pytest.mark.parametrize("module", modules())
def test_imports_point_one_way(module: str) -> None:
    known = modules()
    assert back_edges(module, known[module].read_text(encoding="utf-8"), set(known)) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("world_model.model", "from agent.agent import Agent"),
        ("world_model.model", "def f():\n    from envs.registry import make_env"),
        ("world_model.model", "from envs import registry"),
        ("agent.loop", "from envs.vector import make_pool"),
        ("agent.loop", "import scripts.cli"),
        ("world_model.model", "from configs.load import load_config"),
        ("agent.checkpoint", "from configs.schema import Config"),
        ("envs.spec", "from envs.dmc import DmcEnv"),
        ("configs.load", "from envs.registry import canonical_task"),
        ("scripts.train", "import tests.conftest"),
    ],
)
def test_back_edge_is_found(module: str, source: str) -> None:
    assert len(back_edges(module, source, {"envs.registry"})) == 1


def runtime_imports(body: list[ast.stmt]) -> Iterator[str]:
    """Imports that run when the module is imported, by their top-level name."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module).partition(".")[0]


@pytest.mark.parametrize("path", [path for path in modules().values() if path.name == "__init__.py"], ids=str)
def test_package_imports_the_standard_library_alone(path: Path) -> None:
    names = set(runtime_imports(ast.parse(path.read_text(encoding="utf-8")).body))
    assert names <= sys.stdlib_module_names


def test_command_line_imports_nothing_heavy() -> None:
    heavy = {"torch", "numpy", "mujoco", "dm_control", "gymnasium", "matplotlib", "scipy", "h5py", "PIL"}
    program = f"""
import sys
import agent, agent.evaluation, agent.evaluation.comparison, agent.evaluation.inspection
import agent.evaluation.probe, agent.evaluation.visits, configs.views, envs, envs.datasets
import world_model, world_model.objectives, world_model.pretrain, world_model.views
from scripts import cli, collect, curves, data, doctor, evaluate, export
from scripts import options, pretrain, probe, sweep, train
print(sorted({heavy!r} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
