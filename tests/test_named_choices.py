"""Wherever flows, optimizers and schedules are listed by hand, none is missing."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable
from functools import partial
from typing import get_args

import pytest

from benchmarks.jax_steps import Case, by_scan
from benchmarks.step import Step
from experiments.gpu_baseline import GpuBaseline
from ttjax.cli_info import Info
from ttjax.cli_train import Train
from ttjax.config import preset
from ttjax.contraction import FLOWS, Flow
from ttjax.optimizers import OPTIMIZERS, SCHEDULES


def help_of(command: type, option: str) -> str:
    """The text that stands below an option in its command's class, which the command line shows."""
    [body] = ast.parse(inspect.getsource(command)).body
    assert isinstance(body, ast.ClassDef)
    after = {
        field.target.id: text.value.value
        for field, text in zip(body.body, body.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
    }
    return str(after[option])


@pytest.mark.parametrize(
    ("command", "option", "names"),
    [
        (Info, "flow", FLOWS),
        (Train, "flow", FLOWS),
        (Train, "optimizer", OPTIMIZERS),
        (Train, "schedule", SCHEDULES),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "__name__", ""),
)
def test_an_options_help_names_every_choice(command: type, option: str, names: Iterable[str]) -> None:
    words = set(re.findall(r"\w+", help_of(command, option)))
    assert set(names) - words == set()


def test_the_type_of_a_flow_has_every_flow() -> None:
    assert get_args(Flow) == (*FLOWS,)


def test_every_flow_is_measured_on_the_gpu() -> None:
    assert sorted(GpuBaseline().flows) == sorted(FLOWS)


def test_every_flow_has_a_row_in_the_benchmark() -> None:
    rows = Step(peers=False)._trainings(Case("", preset("tiny"), 1, 1)).values()
    scans = [row for row in rows if isinstance(row, partial) and row.func is by_scan]
    timed = [inspect.signature(by_scan).bind(*row.args, **row.keywords) for row in scans]
    for call in timed:
        call.apply_defaults()
    assert {call.arguments["flow"] for call in timed if call.arguments["format"] == "tt"} == {*FLOWS}
