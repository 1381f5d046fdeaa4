"""What `fpga-bridge cycles` tells its reader: the figures as JSON values, and the tables made of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from rich import box
from rich.table import Table

from fpga_bridge.cycles.model import USABLE_DSP, StepModel, Timing, fits_dies, interval
from fpga_bridge.cycles.power import watts
from fpga_bridge.cycles.roofline import kinds
from fpga_bridge.cycles.trips import SentenceShape
from fpga_bridge.program.accelerator import CLASSES, ClockClass
from fpga_bridge.program.schedule import UNITS

Figures = dict[str, Any]


def figures(model: StepModel, length: int, lengths: Mapping[int, int], clock: float) -> Figures:
    """All figures of a step: for a sentence of ``length``, and the mean over a corpus's ``lengths``.

    clock: MHz, the same for every clock class; they say how deep the operators' pipelines are made for it.
    """
    timings: dict[ClockClass, Timing] = {c: model.timing(SentenceShape(length), c) for c in CLASSES}
    cycles = _by_class(lambda c: timings[c].cycles)
    mean = _by_class(lambda c: model.mean_step(lengths, c))
    sentences = sum(lengths.values())
    mean_products = sum(model.products(n) * count for n, count in lengths.items()) / sentences
    by_unit = {unit: _by_class(lambda c, unit=unit: timings[c].busy(unit)) for unit in UNITS}
    dsp = {c: model.dsp(c) for c in CLASSES}
    blocks = model.blocks

    def power(c: ClockClass) -> float:
        busy = {unit: by_unit[unit][c] / cycles[c] for unit in UNITS}
        return watts(dsp[c], model.luts(), blocks, busy, clock)

    return {
        "length": length,
        "sentences": sentences,
        "clock": clock,
        "cycles": cycles,
        "cycles_mean_corpus": mean,
        "utilisation": _by_class(lambda c: model.utilisation(length, cycles[c])),
        "utilisation_mean_corpus": _by_class(lambda c: mean_products / (model.accelerator.macs * mean[c])),
        "products": model.products(length),
        "interval": _by_class(lambda c: interval(model.accelerator, c)),
        "by_unit": by_unit,
        "at_once": _by_class(lambda c: timings[c].at_once),
        "by_stage": by_stage(model, timings),
        "by_kind": [asdict(kind) for kind in kinds(model, length, "typical")],
        "dsp": _by_class(lambda c: sum(dsp[c].values())),
        "dsp_by_unit": {unit: _by_class(lambda c, unit=unit: dsp[c][unit]) for unit in UNITS},
        "dsp_fits": _by_class(lambda c: fits_dies(dsp[c])),
        "luts": sum(model.luts().values()),
        "luts_by_unit": model.luts(),
        "bram36": blocks.bram36,
        "uram": blocks.uram,
        "seconds": {
            "step": _by_class(lambda c: cycles[c] / clock / 1e6),
            "step_mean_corpus": _by_class(lambda c: mean[c] / clock / 1e6),
            "epoch": _by_class(lambda c: mean[c] * sentences / clock / 1e6),
        },
        "watts": _by_class(power),
        "joules_step": _by_class(lambda c: power(c) * cycles[c] / clock / 1e6),
        "joules_step_mean_corpus": _by_class(lambda c: power(c) * mean[c] / clock / 1e6),
    }


def by_stage(model: StepModel, timings: Mapping[ClockClass, Timing]) -> list[Figures]:
    """Cycles of each stage's instructions, whatever runs beside them, in order of the stages' first."""
    stages: dict[tuple[str, str], Counter[ClockClass]] = {}
    durations = {c: timings[c].durations for c in CLASSES}
    for i, job in enumerate(model.program.instructions):
        counter = stages.setdefault(job.stage, Counter())
        counter.update({c: durations[c][i] for c in CLASSES})
    return [{"phase": phase, "name": name, **counter} for (phase, name), counter in stages.items()]


def stage_table(found: Figures) -> Table:
    """One row a stage, one column a phase; typical clock class."""
    phases = list(dict.fromkeys(stage["phase"] for stage in found["by_stage"]))
    title = f"cycles of units by stage, {found['length']} tokens, typical clock class; stages overlap"
    table = _table("stage", title, *phases, "of the step")
    rows: dict[str, dict[str, int]] = {}
    for stage in found["by_stage"]:
        rows.setdefault(stage["name"], {})[stage["phase"]] = stage["typical"]
    total = found["cycles"]["typical"]
    for name, row in rows.items():
        table.add_row(
            name, *(_number(row.get(p)) for p in phases), f"{100 * sum(row.values()) / total:.1f} %"
        )
    sums = [sum(row.get(phase, 0) for row in rows.values()) for phase in phases]
    table.add_row("all", *map(_number, sums), f"{100 * sum(sums) / total:.1f} %")
    return table


def unit_table(found: Figures) -> Table:
    """One row a unit: cycles at work and DSP blocks by clock class, LUTs; the step, and how units overlap."""
    title = "cycles at work by unit and clock class, DSP, estimate of LUTs"
    table = _table("unit", title, *CLASSES, "DSP", "LUT")
    for unit in UNITS:
        table.add_row(
            unit,
            *(_number(found["by_unit"][unit][c]) for c in CLASSES),
            "/".join(str(found["dsp_by_unit"][unit][c]) for c in CLASSES),
            _number(found["luts_by_unit"][unit]),
        )
    dsp = "/".join(str(found["dsp"][c]) for c in CLASSES)
    cycles = (_number(found["cycles"][c]) for c in CLASSES)
    table.add_row("the step", *cycles, dsp, _number(found["luts"]))
    table.add_row("two or more at once", *(_percent(found["at_once"][c]) for c in CLASSES))
    return table


def step_table(found: Figures) -> Table:
    """A step, its mean over the corpus and an epoch, by clock class."""
    title = f"a training step at {found['clock']:g} MHz"
    table = _table("", title, *CLASSES)

    def add(name: str, key: str, text: Callable[[float], str], part: str | None = None) -> None:
        values = found[key] if part is None else found[key][part]
        table.add_row(name, *(text(values[c]) for c in CLASSES))

    at = f"{found['length']} tokens"
    add(f"cycles, {at}", "cycles", _number)
    add("cycles, corpus mean", "cycles_mean_corpus", _number)
    add(f"engine's utilisation, {at}", "utilisation", _percent)
    add("engine's utilisation, corpus mean", "utilisation_mean_corpus", _percent)
    add(
        f"DSP of the usable {USABLE_DSP}",
        "dsp",
        lambda n: f"{n:,} ({100 * n / USABLE_DSP:.0f} %)",
    )
    add(f"ms a step, {at}", "seconds", lambda s: f"{1e3 * s:.3f}", "step")
    add("ms a step, corpus mean", "seconds", lambda s: f"{1e3 * s:.3f}", "step_mean_corpus")
    add(f"s an epoch of {found['sentences']} sentences", "seconds", lambda s: f"{s:.2f}", "epoch")
    add("W, estimate", "watts", lambda w: f"{w:.1f}")
    add(
        f"mJ a step, corpus mean, estimate at the power of {at}",
        "joules_step_mean_corpus",
        lambda j: f"{1e3 * j:.1f}",
    )
    return table


def remarks(found: Figures) -> list[str]:
    """What the tables leave out, and what doesn't fit."""
    lines = [
        "a model, not a measurement: cycles of the kernel's loop as csim counts them, with published"
        " latencies; reading sentences is not counted; embedding updates at their most",
        "LUTs and energy are estimates from stated assumptions (fpga_bridge/kernel/operators.py, power.py)",
    ]
    for c in CLASSES:
        if found["interval"][c] > 1:
            lines.append(
                f"{c}: an addition takes longer than --sum-distance trips: the loop waits, interval"
                f" {found['interval'][c]}"
            )
        if not found["dsp_fits"][c]:
            lines.append(f"{c}: the units' DSP blocks do not fit on the two dies, each unit on one of them")
    return lines


def _table(first: str, title: str, *headings: str) -> Table:
    table = Table(title=title, title_style="", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column(first)  # gives way on a narrow terminal, for no figure may
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _by_class(value: Callable[[ClockClass], float]) -> dict[ClockClass, float]:
    return {c: value(c) for c in CLASSES}


def _number(n: float | None) -> str:
    return "" if n is None else f"{n:,.0f}"


def _percent(part: float) -> str:
    return f"{100 * part:.1f} %"
