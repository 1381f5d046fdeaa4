"""The list of all experiments, and a way to run one of them: python -m experiments [NAME [OPTIONS]]."""

from __future__ import annotations

import ast
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ttjax.cli import exit_status
from ttjax.errors import UserError
from ttjax.output import Output

PACKAGES = ("experiments", "benchmarks")
ROOT = Path(__file__).parents[1]


class Experiment(NamedTuple):
    """A module with a ``main``; what: the first line of its docstring; minutes: its MINUTES, if it has them.

    name: by which it is asked for; module: its name for ``python -m``.
    """

    name: str
    module: str
    what: str
    minutes: float | None


def experiments() -> dict[str, Experiment]:
    """All of them by name, read from the sources, so that none need be installed with what it needs."""
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).glob("*.py"))]
    found = [_experiment(path) for path in paths if path.stem != "__main__"]
    return {experiment.name: experiment for experiment in found if experiment is not None}


def _experiment(path: Path) -> Experiment | None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if not any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body):
        return None
    minutes = [
        float(ast.literal_eval(node.value))
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MINUTES"
    ]
    package = path.parent.name
    name = path.stem if package == PACKAGES[0] else f"{package}.{path.stem}"
    what = (ast.get_docstring(tree) or "").partition("\n")[0]
    return Experiment(name, f"{package}.{path.stem}", what, minutes[0] if minutes else None)


def listed(out: Output) -> int:
    """Print the list; returns exit status 0."""
    out.say("usage: python -m experiments [NAME [OPTIONS]], or make experiments RUN=NAME ARGS='OPTIONS'\n")
    for experiment in experiments().values():
        minutes = "not measured" if experiment.minutes is None else f"{experiment.minutes:g} minutes"
        out.say(f"{experiment.name}\n    {experiment.what}")
        out.say(f"    {minutes}: make experiments RUN={experiment.name}\n")
    out.say("Minutes are of the command as it is, on a machine of 2 cores without a GPU.")
    out.say("More options: make experiments RUN=accuracy ARGS='--blocks 2 --jobs 2'; they are shown by")
    out.say("ARGS=--help. Each ends in a table and, with those of experiments, a plot and a JSON file.")
    return 0


def run(arguments: Sequence[str]) -> int:
    """The list, or the experiment that ``arguments`` begin with; returns its exit status.

    Raises:
        UserError: there is none of that name.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        return listed(Output(None))
    known = experiments()
    if arguments[0] not in known:
        raise UserError(f"unknown experiment {arguments[0]!r}: expected one of {', '.join(known)}")
    sys.argv = list(arguments)
    runpy.run_module(known[arguments[0]].module, run_name="__main__", alter_sys=True)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that ``arguments`` (default: the process's own) name; returns the exit status."""
    return exit_status(lambda: run(sys.argv[1:] if arguments is None else arguments))


if __name__ == "__main__":
    sys.exit(main())
