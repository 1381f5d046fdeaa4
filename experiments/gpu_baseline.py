"""The same training on a GPU, or on this CPU: time, memory, energy and kernel launches of a step.

python -m experiments.gpu_baseline --epoch

Each format and flow runs in a process of its own, on real sentences padded as scan_steps pads them. "scan" is
a step within one compiled loop, "call" a call of sgd_step that is waited for. Peak memory is the allocator's,
in a process that compiles nothing: choosing kernels takes memory too. Energy is the whole GPU's, idle power
included. Nothing that isn't measured has a column.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np
import tyro
from rich import box
from rich.table import Table

from experiments.files import check_replaceable, options_of
from experiments.gpu_meters import COUNTED, NotMeasured, open_meter
from experiments.gpu_training import Job, measure, measure_peak
from ttjax.cli import exit_status
from ttjax.config import Format, preset
from ttjax.contraction import Flow, checked_flow
from ttjax.costs import MEGABYTE
from ttjax.data import load_corpus
from ttjax.errors import UserError, check_count
from ttjax.output import Output, check_file, write_json
from ttjax.picture import check_results_folder, save, subplots
from ttjax.provenance import code_version
from ttjax.recipe import Recipe

IDLE_SECONDS = 5.0


@dataclass(frozen=True)
class GpuBaseline:
    """Time, memory, energy and launches of a training step where JAX runs: a GPU if it finds one.

    Examples: python -m experiments.gpu_baseline --epoch
              python -m experiments.gpu_baseline --preset enc6 --formats tt --flows bidirectional
    """

    preset: str = "enc2"
    """Model: enc2, enc4, enc6 (the paper's) or tiny."""
    formats: tuple[str, ...] = ("tt", "dense")
    """tt (tensor-train) and dense (uncompressed)."""
    flows: tuple[str, ...] = ("bidirectional", "planned", "right_to_left", "dense")
    """Contraction flows of the TT layers; the dense format has none."""
    steps: int = 200
    """Sentences, the first of an epoch, that a training goes through over and over."""
    rounds: int = 11
    """How often; a time is the median over them."""
    epoch: bool = False
    """Time whole epochs too. Without it an epoch is scaled from the steps, and marked so."""
    data: str | None = None
    """Corpus: a folder, "atis" or "travel". Default: $TTJAX_DATA, else ATIS, else travel, which is
    synthetic."""
    seed: int = 0
    """Of the parameters' start and the order of the sentences."""
    out: Path = Path("experiments/results")
    """Existing folder for gpu_baseline.png and gpu_baseline.json."""
    json: str | None = None
    """Another file for the JSON; - for standard output."""

    def run(self) -> int:
        """Measure, print, write, draw; returns exit status 0."""
        out = Output(self.json)
        flows = self._checked()
        target = check_file(self.out / "gpu_baseline.json") if self.json is None else self.json
        corpus = load_corpus(self.data, notify=out.say)
        options = options_of(self, corpus)
        # Also where --json names another file: the picture is beside this one.
        check_replaceable(self.out / "gpu_baseline.json", options)
        sentences = len(corpus.train)
        if self.steps > sentences:
            raise UserError(f"--steps: expected at most {sentences}, the training sentences: lower it")
        result: dict[str, Any] = {
            "options": options,
            "preset": self.preset,
            "data": corpus.identity,
            "sentences": sentences,
            "steps": self.steps,
            "rounds": self.rounds,
            "seed": self.seed,
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "NVIDIA_TF32_OVERRIDE": os.environ.get("NVIDIA_TF32_OVERRIDE", "not set"),
            "commit": code_version(),
        }
        try:
            # Before any process of ours holds the GPU: this one never does.
            meter = open_meter()
            result["driver"] = meter.driver
            idle = meter.measure(lambda: time.sleep(0.1), IDLE_SECONDS)
            result["idle_watts"] = idle.watts
        except NotMeasured:
            pass  # the processes say why, for their device
        with TemporaryDirectory() as cache:
            jobs = self._jobs(flows, cache)
            with out.progress() as progress:
                task = progress.add_task("measuring", total=len(jobs))
                rows = []
                for job in jobs:
                    progress.update(task, description=_label(job.format, job.flow))
                    rows.append(_row(job))
                    progress.advance(task)
        machines = [row.pop("machine") for row in rows]
        missing = [row.pop("not_measured") for row in rows]
        result["not_measured"] = {what: why for reasons in missing for what, why in reasons.items()}
        result |= {"machine": machines[0], "rows": rows}
        for line in _facts(result):
            out.say(line)
        out.console.print(_table(result))
        for what, why in result["not_measured"].items():
            out.say(f"not measured: {what}: {why}")
        # First the figures: they took minutes on a GPU, the picture can be drawn from them.
        write_json(target, result)
        _draw(result, self.out / "gpu_baseline.png")
        written = "" if self.json == "-" else f"{target}, "
        out.say(f"written: {written}{self.out / 'gpu_baseline.png'}")
        return 0

    def _checked(self) -> list[Flow]:
        """The flows, after checking every option."""
        check_count("--steps", self.steps, least=2)
        check_count("--rounds", self.rounds)
        for name in ("formats", "flows"):
            if not getattr(self, name):
                raise UserError(f"--{name}: expected at least one, found none")
        check_results_folder(self.out)
        preset(self.preset)
        for form in self.formats:
            if form not in get_args(Format):
                raise UserError(f"--formats: expected {' or '.join(get_args(Format))}, found {form!r}")
        Recipe(seed=self.seed)
        return [checked_flow(flow) for flow in dict.fromkeys(self.flows)]

    def _jobs(self, flows: Sequence[Flow], cache: str) -> list[Job]:
        chosen: list[tuple[str, Flow]] = [
            (form, flow)
            for form in dict.fromkeys(self.formats)
            for flow in (flows if form == "tt" else flows[:1])
        ]
        return [
            Job(self.preset, form, flow, self.data, self.steps, self.rounds, self.epoch, self.seed, cache)
            for form, flow in chosen
        ]


def _row(job: Job) -> dict[str, Any]:
    row = _in_own_process(measure, job)
    if "peak memory" not in row["not_measured"]:
        row |= _in_own_process(measure_peak, job)
    return row


def _in_own_process(function: Callable[[Job], dict[str, Any]], job: Job) -> dict[str, Any]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, job).result()


def _label(form: str, flow: str | None) -> str:
    return f"{form} {flow}" if form == "tt" else form


# Column by column: its title, how a row shows it, and None where the row doesn't have it.
Column = tuple[str, Callable[[dict[str, Any]], str | None]]


def _of_epoch(row: dict[str, Any], key: str, digits: int) -> str | None:
    """An epoch's figure; one that is scaled from steps is marked with a tilde."""
    if (found := row.get(key)) is not None:
        return f"{np.median(found):,.{digits}f}"
    scaled = row.get(f"scaled_{key}")
    return None if scaled is None else f"~{scaled:,.{digits}f}"


def _milliseconds(row: dict[str, Any], key: str) -> str:
    low, high = row[key]["quartiles"]
    return f"{row[key]['median']:.3g}±{50 * (high - low) / row[key]['median']:.0f}%"


def _megabytes(row: dict[str, Any], key: str) -> str | None:
    bound = "≤" if row.get("peak_is_bound") and key == "peak_bytes" else ""
    return f"{bound}{row[key] / MEGABYTE:.1f}" if key in row else None


def _total(row: dict[str, Any], key: str) -> str | None:
    return f"{sum(row[key].values()):,}" if key in row else None


COLUMNS: tuple[Column, ...] = (
    ("scan\nms", lambda row: _milliseconds(row, "scan_ms")),
    ("call\nms", lambda row: _milliseconds(row, "call_ms")),
    ("epoch\ns", lambda row: _of_epoch(row, "epoch_seconds", 1)),
    ("launches", lambda row: _total(row, "launches")),
    ("instr.", lambda row: _total(row, "instructions")),
    ("prog.\nMB", lambda row: _megabytes(row, "program_bytes")),
    ("peak\nMB", lambda row: _megabytes(row, "peak_bytes")),
    ("epoch\nJ", lambda row: _of_epoch(row, "epoch_joules", 0)),
    ("W", lambda row: f"{row['watts']:.0f}" if "watts" in row else None),
)


def _facts(result: dict[str, Any]) -> list[str]:
    """What the table's figures are of, before it."""
    machine, sentences = result["machine"], result["sentences"]
    lines = [
        f"{result['preset']} on {machine['device']} ({machine['platform']}), float32, products in"
        f" {machine['matmul_precision']} precision (no TF32, relative error {machine['product_error']:.0e})",
        f"a step in a compiled loop (scan) and by a call, median ± half the quartiles' distance over"
        f" {result['rounds']} rounds of {result['steps']} sentences",
    ]
    if any("launches" in row for row in result["rows"]):
        lines.append(f"launches: kernels, library calls and copies of a step. {COUNTED}")
    if any("instructions" in row for row in result["rows"]):
        lines.append(f"instr.: instructions of a step, no kernels. {COUNTED}")
    if "idle_watts" in result:
        lines.append(f"the GPU idle, before: {result['idle_watts']:.0f} W")
    if any(key.startswith("scaled_") for row in result["rows"] for key in row):
        lines.append(f"~: scaled from steps to an epoch of {sentences} sentences")
    return lines


def _table(result: dict[str, Any]) -> Table:
    rows = result["rows"]
    columns = [(title, show) for title, show in COLUMNS if any(show(row) is not None for row in rows)]
    table = Table("", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title, _ in columns:
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(_label(row["format"], row.get("flow")), *(show(row) or "" for _, show in columns))
    return table


def _draw(result: dict[str, Any], path: Path) -> None:
    rows = result["rows"]

    def has(key: str) -> bool:
        return all(key in row for row in rows)

    # Title and, by label, the bars of a panel; what isn't measured of every row is left out.
    panels: dict[str, dict[str, Callable[[dict[str, Any]], float]]] = {
        "ms a step": {
            "in a compiled loop": lambda row: row["scan_ms"]["median"],
            "by a call": lambda row: row["call_ms"]["median"],
        }
    }
    for key, title in (("launches", "launches a step"), ("instructions", "CPU instructions a step")):
        if has(key):
            panels[title] = {title: lambda row, key=key: sum(row[key].values())}
    memory = (("program_bytes", "the program's"), ("peak_bytes", "the allocator's peak"))
    if bars := {label: lambda row, key=key: row[key] / MEGABYTE for key, label in memory if has(key)}:
        panels["memory in MB"] = bars
    for key, title in (
        ("epoch_joules", "J an epoch"),
        ("scaled_epoch_joules", "J an epoch, scaled from steps"),
    ):
        if has(key):
            panels[title] = {title: lambda row, key=key: row[key]}
    figure, grid = subplots(1, len(panels), figsize=(4 * len(panels), 4.5))
    labels = [_label(row["format"], row.get("flow")).replace(" ", "\n") for row in rows]
    for axes, (title, bars) in zip(np.atleast_1d(grid), panels.items(), strict=True):
        width = 0.8 / len(bars)
        for n, (label, value) in enumerate(bars.items()):
            places = [i + (n - (len(bars) - 1) / 2) * width for i in range(len(rows))]
            drawn = axes.bar(places, [value(row) for row in rows], width, label=label)
            axes.bar_label(drawn, fmt="%.3g", fontsize=7)
        axes.set_xticks(range(len(rows)), labels, fontsize=7)
        axes.set_ylabel(title)
        if len(bars) > 1:
            axes.legend(fontsize=8)
    machine = result["machine"]
    figure.suptitle(f"{result['preset']} on {machine['device']}, {result['data']['name']}", fontsize=9)
    save(figure, path)


def main() -> int:
    """Run the study; returns the exit status."""
    return exit_status(lambda: tyro.cli(GpuBaseline, prog="python -m experiments.gpu_baseline").run())


if __name__ == "__main__":
    sys.exit(main())
