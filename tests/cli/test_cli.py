from __future__ import annotations

import ast
import errno
import importlib
import inspect
import itertools
import os
import resource
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest

from configs.load import ConfigError
from configs.options import Options
from configs.schema import Config
from envs.spec import WorkerError
from scripts import cli
from scripts.launch import ALLOCATOR

ROOT = Path(__file__).parents[2]


def run_python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name not in ALLOCATOR} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let the command `train` raise."""

    def main(arguments: list[str]) -> NoReturn:
        raise error

    monkeypatch.setattr(importlib, "import_module", lambda name: SimpleNamespace(main=main))


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_all_commands(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text and summary in text for name, (_, summary) in cli.COMMANDS.items())


@pytest.mark.parametrize(
    "arguments", [["--help"], *([name, "--help"] for name in cli.COMMANDS)], ids=" ".join
)
def test_help_is_quick(arguments: list[str]) -> None:
    """Processor time, which other load on the machine does not change."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run_python("-m", "scripts.cli", *arguments)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0
    assert "usage: nearfar" in done.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0


def documented(kind: type[Options]) -> dict[str, str]:
    """What stands below each option of a class and of its bases, in the source."""
    found: dict[str, str] = {}
    for base in reversed([each for each in kind.__mro__ if issubclass(each, Options)]):
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(body, ast.ClassDef)
        for option, text in itertools.pairwise(body.body):
            if isinstance(option, ast.AnnAssign) and isinstance(text, ast.Expr):
                assert isinstance(option.target, ast.Name) and isinstance(text.value, ast.Constant)
                found[option.target.id] = str(text.value.value)
    return found


def options_of(kind: type[Options], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Name of each option's flag, without dashes, and its description."""
    texts = documented(kind)
    for name, field in kind.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Options):
            yield from options_of(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}".replace("_", "-"), texts[name]


def test_train_help_documents_every_option() -> None:
    text = run_python("-m", "scripts.cli", "train", "--help", COLUMNS="400").stdout
    renamed = {"imports": "import", "from-run": "from"}
    flags = {renamed.get(name, name): description for name, description in options_of(Config)}
    assert len(flags) > 80
    for name, description in flags.items():
        group, _, last = name.rpartition(".")
        negated = f"--{group}.no-{last}" if group else f"--no-{last}"
        assert f"--{name} " in text or f"{negated} " in text, name
        assert description[:30] in text, name  # long ones go on in the next line


def test_bench_help_has_what_it_uses_alone() -> None:
    text = run_python("-m", "scripts.cli", "bench", "--help").stdout
    assert all(f"--{name} " in text for name in ("json", "pool", "task", "training.batch-size"))
    assert not any(f"--{name}" in text for name in ("frames", "out ", "evaluation", "logging"))


def test_reader_that_stops_reading_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "scripts.cli", "train", "--help"]
    with os.fdopen(write, "w") as pipe:
        done = subprocess.run(
            command, cwd=ROOT, stdout=pipe, stderr=subprocess.PIPE, timeout=120, check=False
        )
    assert (done.returncode, done.stderr) == (141, b"")


def test_unknown_command_offers_near_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["trian"]) == 2
    assert "unknown command 'trian'; perhaps you meant train" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train --preset gpuu", "unknown preset 'gpuu'; perhaps you meant gpu"),
        ("train --preset absent.yaml", "cannot read absent.yaml"),
        ("train --preset cpu --seed -1", "seed: input should be greater than or equal to 0, not -1"),
        (
            "train --preset=cpu --world-model.horizon 0",
            "world_model.horizon: input should be greater than 0, not 0",
        ),
        (
            "train --preset debug --actor-critic.imagined-updates 3",
            "error: actor_critic: imagined_updates 3 is more than extra_updates 2",
        ),
        ("train --preset debug --planner.min-std 0.9", "planner.min_std 0.9 exceeds planner.max_std 0.4"),
        (
            "train --preset debug --replay.capacity 4",
            "replay.capacity 4 over 1 environments is less than the 6",
        ),
        ("train --preset debug --world-model.symlog-limit 100", "symlog_limit: input should be less than or"),
        ("train --preset debug --training.threads 1099511627776", "training.threads: input should be less"),
        ("train --preset debug --out /proc/nearfar", "/proc/nearfar cannot be a run directory"),
        ("evaluate README.md", "README.md is no checkpoint of nearfar: give the path of one"),
        ("train --preset cpu --task dmc/walker-wlak", "dmc/walker-walk"),
        (
            "train --preset cpu --distract camera=easy,backgruond=hard",
            "error: distract: unknown distractor 'backgruond'; perhaps you meant background",
        ),
        ("train --preset cpu --distract background=medum", "perhaps you meant medium (a folder is written"),
        ("evaluate somewhere --distract camera=hrad", "distract: unknown strength 'hrad' of camera; perhaps"),
        ("train --preset cpu --task gym/Hoper-v5", "did you mean gym/Hopper-v5"),
        ("evaluate somewhere --episodes 0", "episodes: input should be greater than 0, not 0"),
    ],
)
def test_mistake_is_one_line(arguments: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments.split()) == 2
    text = capsys.readouterr().err
    assert text.startswith("nearfar: error: ")
    assert text.count("\n") == 1
    assert message in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "train --preset cpu --sede 3",
            "Unrecognized options: --sede, 3; perhaps you meant --seed: see nearfar",
        ),
        (
            "train --preset cpu --world-model.objektive byol",
            "perhaps you meant --world-model.objective or --world-model.positives: ",
        ),
        ("train --preset cpu --sede 3 --fraems 9", "options: --sede, 3, --fraems, 9; perhaps you meant --"),
        ("train --preset cpu --size big", "--size: invalid literal for int() with base 10: 'big': see"),
        (
            "train --preset cpu --curiosity.bonus novelty",
            "'--curiosity.bonus'. Expected one of ('contrastive', 's",
        ),
        ("train --preset cpu --logging.tensorboard maybe", "Unrecognized options: maybe"),
        (
            "train --preset",
            "Missing value for argument '--preset'. Expected 1 values: see nearfar train --help",
        ),
        (
            "inspect README.md --variables slider",
            "--variables: expected STR STR, found 'slider': see nearfar",
        ),
        ("evaluate", "Missing from nearfar evaluate: PATH: see nearfar evaluate --help"),
        ("evaluate somewhere --jsn", "perhaps you meant --json: see"),
        ("evaluate one two", "Unrecognized options: two: see nearfar evaluate --help"),
        ("data export flac a b", "flac"),
    ],
)
def test_misspelt_option_offers_near_names(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments.split()) == 2
    text = capsys.readouterr().err
    assert text.startswith("nearfar: error: ") and text.count("\n") == 1
    assert message in text and " --help\n" in text


def test_cuda_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert cli.main(["train", "--device", "cuda"]) == 2
    assert "--device cpu" in capsys.readouterr().err


def test_missing_rendering_names_the_packages(tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    done = run_python("-m", "scripts.cli", "train", "--preset", "debug", "--out", out, MUJOCO_GL="none")
    assert done.returncode == 2
    assert "apt-get install libegl1" in done.stderr
    assert "Traceback" not in done.stderr
    assert not Path(out).exists(), "nothing was begun"


def test_full_disk_is_a_failure_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(monkeypatch, OSError(errno.ENOSPC, "No space left on device", "runs/x/metrics.jsonl"))
    assert cli.main(["train"]) == 1
    text = capsys.readouterr().err
    assert "disk is full (runs/x/metrics.jsonl): free some space" in text
    assert text.count("\n") == 1


def test_user_error_and_its_subclasses_exit_with_2(monkeypatch: pytest.MonkeyPatch) -> None:
    class SpecialError(ConfigError):
        pass

    raising(monkeypatch, SpecialError("no"))
    assert cli.main(["train"]) == 2


def test_interrupt_exits_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, KeyboardInterrupt())
    assert cli.main(["train"]) == 130


@pytest.mark.parametrize("error", [ValueError("a defect"), OSError(errno.EIO, "a broken disk")])
def test_defect_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    raising(monkeypatch, error)
    with pytest.raises(type(error)):
        cli.main(["train"])


def test_broken_environment_is_a_failure_without_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(monkeypatch, WorkerError("environment 1 of counting failed 11 times"))
    assert cli.main(["train"]) == 1
    assert capsys.readouterr().err == "nearfar: error: environment 1 of counting failed 11 times\n"


@pytest.mark.parametrize("name", sorted(cli.USER_ERRORS | cli.FAILURES))
def test_tables_name_exceptions(name: str) -> None:
    module, _, kind = name.rpartition(".")
    assert issubclass(getattr(importlib.import_module(module), kind), Exception)
