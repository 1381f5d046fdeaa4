"""What `fpga-bridge cycles` tells its reader: the figures as JSON values, and the tables made of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from rich import box
from rich.table import Table

from fpga_bridge.cycles.model import USABLE_DSP, StepModel, fits_dies, stretch
from fpga_bridge.cycles.operators import CLASSES, ClockClass
from fpga_bridge.cycles.power import watts
from fpga_bridge.cycles.roofline import kinds
from fpga_bridge.cycles.trips import SentenceShape
from fpga_bridge.program.schedule import UNITS

Figures = dict[str, Any]


def figures(model: StepModel, length: int, lengths: Mapping[int, int], clock: float) -> Figures:
    """All figures of a step: for a sentence of ``length``, and the mean over a corpus's ``lengths``.

    clock: MHz, the same for every clock class; they say how deep the operators' pipelines are made for it.
    Time, utilisation and energy are of one instruction after another, as the kernel's source stands.
    """
    trips = model.trips(SentenceShape(length))
    durations: dict[ClockClass, list[int]] = {c: model.durations(trips, c) for c in CLASSES}
    cycles = _by_class(lambda c: model.step(SentenceShape(length), c))
    mean = _by_class(lambda c: model.mean_step(lengths, c))
    sentences = sum(lengths.values())
    mean_products = sum(model.products(n) * count for n, count in lengths.items()) / sentences
    by_unit = {unit: _by_class(lambda c, unit=unit: _sum(model, durations[c], unit)) for unit in UNITS}
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
        "cycles_side_by_side": _by_class(lambda c: model.step(SentenceShape(length), c, side_by_side=True)),
        "cycles_mean_atis": mean,
        "cycles_mean_atis_side_by_side": _by_class(lambda c: model.mean_step(lengths, c, side_by_side=True)),
        "utilisation": _by_class(lambda c: model.utilisation(length, cycles[c])),
        "utilisation_mean_atis": _by_class(lambda c: mean_products / (model.accelerator.macs * mean[c])),
        "products": model.products(length),
        "interval": {unit: _by_class(lambda c, unit=unit: _interval(model, unit, c)) for unit in UNITS},
        "by_unit": by_unit,
        "by_stage": by_stage(model, durations),
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
            "step_mean_atis": _by_class(lambda c: mean[c] / clock / 1e6),
            "epoch": _by_class(lambda c: mean[c] * sentences / clock / 1e6),
        },
        "watts": _by_class(power),
        "joules_step": _by_class(lambda c: power(c) * cycles[c] / clock / 1e6),
        "joules_step_mean_atis": _by_class(lambda c: power(c) * mean[c] / clock / 1e6),
    }


def by_stage(model: StepModel, durations: Mapping[ClockClass, list[int]]) -> list[Figures]:
    """Cycles of each stage's instructions, one after another, in order of the stages' first."""
    stages: dict[tuple[str, str], Counter[ClockClass]] = {}
    for i, job in enumerate(model.program.instructions):
        counter = stages.setdefault(job.stage, Counter())
        counter.update({c: durations[c][i] for c in CLASSES})
    return [{"phase": phase, "name": name, **counter} for (phase, name), counter in stages.items()]


def stage_table(found: Figures) -> Table:
    """One row a stage with its phases side by side; typical clock class."""
    phases = list(dict.fromkeys(stage["phase"] for stage in found["by_stage"]))
    title = f"cycles by stage, {found['length']} tokens, typical clock class"
    table = _table("stage", title, *phases, "share")
    rows: dict[str, dict[str, int]] = {}
    for stage in found["by_stage"]:
        rows.setdefault(stage["name"], {})[stage["phase"]] = stage["typical"]
    total = found["cycles"]["typical"]
    for name, row in rows.items():
        table.add_row(
            name, *(_number(row.get(p)) for p in phases), f"{100 * sum(row.values()) / total:.1f} %"
        )
    sums = [sum(row.get(phase, 0) for row in rows.values()) for phase in phases]
    table.add_row("all", *map(_number, sums), "100 %")
    return table


def unit_table(found: Figures) -> Table:
    """One row a unit: its cycles, the interval of its loop, DSP blocks and LUTs by clock class."""
    title = "cycles by unit and clock class, interval of its loop, DSP, estimate of LUTs"
    table = _table("unit", title, *CLASSES, "II", "DSP", "LUT")
    for unit in UNITS:
        table.add_row(
            unit,
            *(_number(found["by_unit"][unit][c]) for c in CLASSES),
            "/".join(str(found["interval"][unit][c]) for c in CLASSES),
            "/".join(str(found["dsp_by_unit"][unit][c]) for c in CLASSES),
            _number(found["luts_by_unit"][unit]),
        )
    dsp = "/".join(str(found["dsp"][c]) for c in CLASSES)
    cycles = (_number(found["cycles"][c]) for c in CLASSES)
    table.add_row("all", *cycles, "", dsp, _number(found["luts"]))
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
    add("cycles, corpus mean", "cycles_mean_atis", _number)
    add(f"engine's utilisation, {at}", "utilisation", _percent)
    add("engine's utilisation, corpus mean", "utilisation_mean_atis", _percent)
    add("DSP of the usable 5352", "dsp", lambda n: f"{n:,} ({100 * n / USABLE_DSP:.0f} %)".replace(",", " "))
    add(f"ms a step, {at}", "seconds", lambda s: f"{1e3 * s:.3f}", "step")
    add("ms a step, corpus mean", "seconds", lambda s: f"{1e3 * s:.3f}", "step_mean_atis")
    add(f"s an epoch of {found['sentences']} sentences", "seconds", lambda s: f"{s:.2f}", "epoch")
    add("W, estimate", "watts", lambda w: f"{w:.1f}")
    add("mJ a step, corpus mean, estimate", "joules_step_mean_atis", lambda j: f"{1e3 * j:.1f}")
    add(f"cycles side by side, {at}", "cycles_side_by_side", _number)
    add("cycles side by side, corpus mean", "cycles_mean_atis_side_by_side", _number)
    return table


def remarks(found: Figures) -> list[str]:
    """What the tables leave out, and what doesn't fit."""
    lines = [
        "a model, not a measurement: cycles from csim's trips and published latencies; fetching instructions"
        " and reading sentences are not counted; embedding updates at their most",
        "one instruction after another, as the kernel's source stands; units side by side is what the program"
        " allows, and no hardware for it is built",
        "LUTs and energy are estimates from stated assumptions (fpga_bridge/cycles/operators.py, power.py)",
    ]
    for c in CLASSES:
        if found["interval"]["engine"][c] > 1:
            lines.append(
                f"{c}: an addition takes longer than --sum-distance trips: sums wait, interval"
                f" {found['interval']['engine'][c]}"
            )
        if not found["dsp_fits"][c]:
            lines.append(f"{c}: the units' DSP blocks do not fit on the two dies, each unit on one of them")
    return lines


def _table(first: str, title: str, *headings: str) -> Table:
    table = Table(title=title, title_style="", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column(first, no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _by_class(value: Callable[[ClockClass], float]) -> dict[ClockClass, float]:
    return {c: value(c) for c in CLASSES}


def _interval(model: StepModel, unit: str, c: ClockClass) -> int:
    return stretch(unit, model.pipelines[unit], model.accelerator, c)


def _sum(model: StepModel, durations: list[int], unit: str) -> int:
    return sum(n for n, of in zip(durations, model.units, strict=True) if of == unit)


def _number(n: float | None) -> str:
    return "" if n is None else f"{n:,.0f}".replace(",", " ")


def _percent(part: float) -> str:
    return f"{100 * part:.1f} %"
