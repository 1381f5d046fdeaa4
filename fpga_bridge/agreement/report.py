"""What a co-simulation tells its reader: the table of stages, the first divergence, the JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from rich import box
from rich.table import Table

from fpga_bridge.agreement.criterion import Comparison
from fpga_bridge.agreement.lockstep import Report
from ttjax.output import json_number

# A relative error from here on says that the value itself is rounding noise: the gradient of a key's bias is
# zero in exact arithmetic, and so such a bias never leaves its start but by noise. JAX's error, not the
# device's, which may be large for other reasons.
NOISE = 1e-2
# Parameters named in a line that may have any number of them.
UNSEEN_SHOWN = 3
# Columns of the table, in the order a step runs: kind of trace point and its heading.
KINDS = {
    "value": "forward",
    "value_gradient": "backward",
    "parameter_gradient": "gradients",
    "updated": "updated",
}


def stage_table(report: Report) -> Table:
    """One row a stage, one column a kind of trace point.

    A cell: the device's worst error over all steps and points, and how often JAX's own error there it is.
    Rounding noise is left out where there is anything else; a point that disagrees comes before all others.
    """
    table = Table(
        title=f"device error against float64, worst of {_steps(report)} (× JAX's own error there)",
        title_style="",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("stage", no_wrap=True)
    for heading in KINDS.values():
        table.add_column(heading, justify="right", no_wrap=True)
    for stage, comparisons in _by_stage(report.comparisons).items():
        cells = (_cell([c for c in comparisons if c.kind == kind]) for kind in KINDS)
        table.add_row(stage, *cells)
    return table


def summary(report: Report, device: str = "csim") -> list[str]:
    """The lines under the table: what was compared on which device, the verdict, the time."""
    points = len({c.name for c in report.comparisons})
    worst = max((c.excess for c in report.comparisons if c.excess is not None), default=0.0)
    bare = sum(c.excess is None for c in report.comparisons)
    used = f"{100 * worst:.0f} % of" if worst <= 1 else f"{worst:.3g} times"
    lines = [
        f"{report.mode}: {_steps(report)}, {points} trace points each, padding left out; allowed:"
        f" {report.criterion.multiple:g} times float32's own error + {report.criterion.floor:g} epsilon;"
        f" the worst point uses {used} that" + (f", {bare} can't be measured" if bare else ""),
    ]
    if report.unseen_updates:
        few = ", ".join(report.unseen_updates[:UNSEEN_SHOWN])
        more = ", ..." if len(report.unseen_updates) > UNSEEN_SHOWN else ""
        lines.append(
            f"updates too small to be seen, {len(report.unseen_updates)} of {len(report.updates)} parameters:"
            f" left as they were, they would agree too ({few}{more})"
        )
    if report.unjudged:
        earliest = report.unjudged[0]
        lines.append(
            f"points that can't be judged, {len(report.unjudged)} of {len(report.comparisons)}: zeros would"
            f" agree too; the first: {earliest.name}, in step {earliest.step + 1}"
        )
    for what, found in (
        ("parameters that the device changed and didn't show", report.moved),
        ("losses that the device returned otherwise than it showed them", report.misstated),
    ):
        if found:
            name, step = next(iter(found.items()))
            lines.append(f"{what}, {len(found)}; the first: {name}, in step {step + 1}")
    if report.same_bits is not None:
        ending = "the same bits" if report.same_bits else "OTHER BITS"
        losses = "the same losses" if report.same_losses else "OTHER LOSSES"
        lines.append(f"the same steps in one call without trace end in {ending}, with {losses}")
    lines.append(f"{device}: {report.ms_per_step:.1f} ms a step without trace")
    if report.mode == "free":
        lines.append(_drift(report))
    first = report.first_divergence
    if report.verdict == "NO VERDICT":
        lines.append(f"NO VERDICT: {_why_none(report)}")
    elif first is None:
        lines.append(report.verdict)
    else:
        count = sum(not c.agree for c in report.comparisons)
        lines.append(f"DISAGREE at {count} of {len(report.comparisons)} points; the first: {describe(first)}")
        if report.made_by:
            lines.append(f"made by {', '.join(report.made_by)}")
    return lines


def _why_none(report: Report) -> str:
    """Why there is no verdict, and what to do."""
    if report.first_divergence is not None:
        where = describe(report.first_divergence)
        return f"the steps diverge, whatever the device does: lower --rate; {where}"
    assert report.undecided is not None
    step, kind = report.undecided
    return (
        f"half or more of step {step + 1}'s points under {KINDS[kind]} can't be judged: lower --rate or"
        " --multiple, or run fewer --steps"
    )


def describe(c: Comparison) -> str:
    """One divergence in a line, steps counted from 1: where, how much, the worst element on both sides."""
    where = (
        f"step {c.step + 1}, stage {c.stage} ({KINDS[c.kind]}), {c.name} of shape {list(c.shape)}: {c.reason}"
    )
    if c.worst is not None:
        where += f"; worst at {list(c.worst)}: JAX {c.expected}, device {c.actual}"
    if c.ulp is not None:
        where += f", {c.ulp[2]} ulp; normwise error {c.device_error:.2e}, JAX's {c.jax_error:.2e}"
    return where


def to_json(report: Report) -> dict[str, Any]:
    """The report's figures as JSON values; steps count from 0, ``first_divergence`` is null if all agree."""
    first, undecided = report.first_divergence, report.undecided
    return {
        "agree": report.agree,
        "verdict": report.verdict,
        "mode": report.mode,
        "steps": report.steps,
        "criterion": asdict(report.criterion),
        "first_divergence": None if first is None else asdict(first),
        "made_by": list(report.made_by),
        "ms_per_step": report.ms_per_step,
        "same_bits_untraced": report.same_bits,
        "same_losses_untraced": report.same_losses,
        "unseen_updates": report.unseen_updates,
        "unjudged": len(report.unjudged),
        "undecided": None if undecided is None else {"step": undecided[0], "kind": undecided[1]},
        "moved": report.moved,
        "misstated": report.misstated,
        "losses": [{"device": json_number(device), "jax": json_number(jax)} for device, jax in report.losses],
        "points": [asdict(c) for c in report.comparisons],
    }


def _by_stage(comparisons: Iterable[Comparison]) -> dict[str, list[Comparison]]:
    stages: dict[str, list[Comparison]] = {}
    for c in comparisons:
        stages.setdefault(c.stage, []).append(c)
    return stages


def _cell(comparisons: list[Comparison]) -> str:
    if not comparisons:
        return ""
    failed = next((c for c in comparisons if not c.agree), None)
    real = [c for c in comparisons if c.jax_error is not None and c.jax_error < NOISE]
    worst = failed or max(real or comparisons, key=lambda c: c.device_error or 0.0)
    if worst.device_error is None or worst.jax_error is None:
        return f"[red]{worst.reason}[/red]"
    error = f"{worst.device_error:.1e}" if failed or real else "noise"
    times = f" {worst.device_error / worst.jax_error:.1f}×" if worst.jax_error else ""
    return f"[red]{error}{times}[/red]" if failed else f"{error}{times}"


def _steps(report: Report) -> str:
    return "1 step" if report.steps == 1 else f"{report.steps} steps"


def _drift(report: Report) -> str:
    """How far device and JAX are from the truth's parameters after the last step."""
    last = [c for c in report.comparisons if c.kind == "updated" and c.step == report.steps - 1]
    real = [c for c in last if c.jax_error is not None and c.jax_error < NOISE]
    device = max((c.device_error for c in real if c.device_error is not None), default=float("nan"))
    jax = max((c.jax_error for c in real if c.jax_error is not None), default=float("nan"))
    return f"drift after {_steps(report)}, worst parameter: device {device:.1e}, JAX {jax:.1e}"
