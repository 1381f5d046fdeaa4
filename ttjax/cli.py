"""The command line `ttjax`: its commands, and what becomes of errors.

Status 0 is success, 2 a user's mistake (one line on standard error), 130 an interruption, 141 a reader gone.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from io import TextIOWrapper
from typing import Annotated

import tyro

from ttjax.cli_info import Info
from ttjax.cli_train import Train
from ttjax.cli_use import Evaluate, Predict
from ttjax.compiled import keep_compiled
from ttjax.data.cli import DataFetch, DataShow
from ttjax.errors import UserError

DESCRIPTION = """Train a tensor-train transformer for intents and slots, and see what it costs.

Examples: ttjax info --preset enc2 --format tt
          ttjax data show --data travel
          ttjax train --preset enc2 --epochs 16 --checkpoint run.safetensors
          ttjax evaluate run.safetensors --split dev
          ttjax predict run.safetensors "show me flights from boston to denver" --best"""

_DataCommand = (
    Annotated[DataShow, tyro.conf.subcommand("show")] | Annotated[DataFetch, tyro.conf.subcommand("fetch")]
)


@dataclass(frozen=True)
class Data:
    """Show the statistics of a corpus (alone: of the default one), or fetch ATIS.

    Examples: ttjax data
              ttjax data show --data travel
              ttjax data fetch
    """

    command: Annotated[_DataCommand, tyro.conf.arg(name="")] = field(default_factory=DataShow)

    def run(self) -> int:
        """Run the chosen command; returns its exit status."""
        return self.command.run()


_Command = (
    Annotated[Info, tyro.conf.subcommand("info")]
    | Annotated[Data, tyro.conf.subcommand("data")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Predict, tyro.conf.subcommand("predict")]
)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command that ``args`` (default: the process's own) name; returns the exit status."""
    return exit_status(
        lambda: tyro.cli(_Command, prog="ttjax", description=DESCRIPTION, args=args).run(),
        own_process=args is None,
    )


def exit_status(command: Callable[[], int], *, own_process: bool = False) -> int:
    """The command's own status; 2 and one line on standard error for a UserError, a path denied, a full disk.

    130 on Ctrl-C, 141 when the reader of standard output has gone. ``own_process``: nothing but the command
    runs in this process, which ends with it; what it compiles is kept for the next one.
    """
    if own_process:
        keep_compiled()
    for stream in (sys.stdout, sys.stderr):
        # A terminal that can't show a sign (× in ASCII) shows another in its place.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        return command()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interruption:
        # With what was at work, where that is worth knowing.
        print(": ".join(["interrupted", *map(str, interruption.args)]), file=sys.stderr)
        if own_process:
            # XLA, stopped amid a compilation, can crash while the interpreter takes it down.
            with suppress(OSError):
                sys.stdout.flush()
            os._exit(130)
        return 130
    except BrokenPipeError:
        # The reader (`| head`) has gone: nothing more to say.
        _silence()
        return 141
    except OSError as error:
        # Files that commands write are named in a UserError: this is what they print.
        if error.errno in (errno.ENOSPC, errno.EDQUOT) and error.filename is None:
            _silence()
            print(f"error: can't write the output ({error.strerror}): make room for it", file=sys.stderr)
            return 2
        # What a path can be refused for has no end: a folder that may not be entered, a name too long.
        if error.filename is None:
            raise
        print(f"error: {error.filename}: can't use it ({error.strerror}): choose another", file=sys.stderr)
        return 2


def _silence() -> None:
    """What standard output still holds isn't written at exit either, where it would fail once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
