"""The `nearfar` command: finds the sub-command, runs it, and turns what it raises into exit codes.

Exit codes: 0 done, 1 a failure, 2 the user's mistake, 130 or 143 stopped by a signal after saving.
Sub-commands are imported when they are called, so that `--help` stays quick.
"""

from __future__ import annotations

import difflib
import errno
import importlib
import os
import select
import signal
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import TextIO

from scripts.launch import restart_with_allocator

# Command -> (module with `main(arguments) -> exit code`, one line of help).
COMMANDS = {
    "train": ("scripts.train", "train an agent from pixels; an interrupted run goes on where it was"),
    "collect": ("scripts.collect", "record episodes: at random, smoothly at random, by a trained agent"),
    "evaluate": ("scripts.evaluate", "returns of a trained agent, with video"),
    "pretrain": ("scripts.pretrain", "an encoder from recorded episodes: SimCLR, MoCo, BYOL and others"),
    "sweep": ("scripts.sweep", "many runs: tasks x variants x seeds, in parallel, resumed where it was cut"),
    "curves": ("scripts.curves", "sample-efficiency curves of runs and sweeps, with statistics and a report"),
    "data": ("scripts.data", "import, export, inspect and verify datasets (Minari, V-D4RL, ExORL, images)"),
    "inspect": ("scripts.inspect_run", "pictures of a run: imagined futures, plans, values, similarity"),
    "probe": ("scripts.probe", "what encoders know of the state, beside random and supervised ones"),
    "export": ("scripts.export", "the encoder of a run as a file of its own, or as a torch.export program"),
    "bench": ("scripts.bench", "how fast each part of a training step is on this machine"),
    "doctor": ("scripts.doctor", "what this machine has, and how to mend what is missing"),
}

# Failures that are no defect of nearfar, by name: their message alone is shown.
FAILURES = {"envs.spec.WorkerError", "world_model.divergence.DivergedError"}

# Exceptions that mean a mistake of the user, by name: most of their modules import torch, this one must not.
USER_ERRORS = {
    "agent.checkpoint.CheckpointError",
    "agent.evaluation.run_files.RunError",
    "agent.sweeps.ledger.LedgerError",
    "configs.load.ConfigError",
    "envs.backgrounds.DistractorError",
    "envs.datasets.base.DatasetError",
    "envs.episodes.EpisodeError",
    "envs.registry.TaskError",
    "envs.relabelling.RelabellingError",
    "envs.rendering.RenderingUnavailableError",
    "scripts.run_directory.RunDirectoryError",
    "world_model.encoder_file.EncoderFileError",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command.

    Args:
        argv: arguments after the program's name; unset: those of this process, which may then be
            restarted with other allocator settings.

    Returns:
        The exit code.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = arguments.pop(0) if arguments else "--help"
    if command in ("-h", "--help"):
        print(_usage())
        return 0
    if command == "--version":
        print(f"nearfar {metadata.version('nearfar')}")
        return 0
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1) or list(COMMANDS)
        return _fail(f"unknown command {command!r}; perhaps you meant {' or '.join(near)}", 2)
    if argv is None and not {"-h", "--help"} & set(arguments):
        restart_with_allocator()
    return _run(COMMANDS[command][0], arguments)


def _run(module: str, arguments: list[str]) -> int:
    """Call a sub-command; anything it raises that is neither handled here nor expected stays a traceback."""
    try:
        return int(importlib.import_module(module).main(arguments))
    except KeyboardInterrupt:
        return 130
    except MemoryError as error:
        return _fail(f"not enough memory ({error}): lower --replay.capacity or --training.batch-size", 1)
    except BrokenPipeError:
        if not _is_unread(sys.stdout):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is flushed at exit
        return 128 + signal.SIGPIPE
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = error.filename or error
        return _fail(f"the disk is full ({where}): free some space and run the same command", 1)
    except Exception as error:
        if is_among(error, USER_ERRORS):
            return _fail(str(error), 2)
        if is_among(error, FAILURES):
            return _fail(str(error), 1)
        raise


def _is_unread(stream: TextIO) -> bool:
    """Whether the reader of a stream is gone, as after `| head`."""
    poll = select.poll()
    poll.register(stream.fileno(), 0)  # errors are reported without being asked for
    return any(event & select.POLLERR for _, event in poll.poll(0))


def is_among(error: Exception, names: set[str]) -> bool:
    """Whether the class of an exception, or a base of it, has one of these names."""
    return any(f"{kind.__module__}.{kind.__name__}" in names for kind in type(error).__mro__)


def _usage() -> str:
    rows = (f"  {name:10}{text}" for name, (_, text) in COMMANDS.items())
    return "\n".join(
        [
            "usage: nearfar COMMAND [OPTIONS]",
            "",
            "Model-based reinforcement learning from pixels with contrastive objectives.",
            "",
            "commands:",
            *rows,
            "",
            "nearfar COMMAND --help lists a command's options.",
        ]
    )


def _fail(message: str, code: int) -> int:
    print(f"nearfar: error: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
