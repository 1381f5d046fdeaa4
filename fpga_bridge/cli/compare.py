"""The command `fpga-bridge compare`: the same steps on every device of this machine, in one table.

A device that the machine does not have is listed as absent, one that breaks as failed, with the reason.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro
from rich import box
from rich.markup import escape
from rich.table import Table

from fpga_bridge.agreement.compare import Course, Finding, jax_course, judge, kernel_course, same_end
from fpga_bridge.cli.steps import check_run, draw_sentences
from fpga_bridge.device import MissingXrt
from fpga_bridge.devices.by_name import check_name, open_device
from fpga_bridge.devices.xrt_open import check_xclbin_file
from ttjax import Batch, ModelConfig, Params, UserError, init_params
from ttjax.cli_model import ModelArgs
from ttjax.data import load_corpus
from ttjax.data.corpus import title_of
from ttjax.output import Output, check_apart, json_number
from ttjax.picture import check_picture, save, subplots
from ttjax.provenance import versions

JAX_DEVICES = {"jax-cpu": "cpu", "jax-gpu": "gpu"}


class MissingPlatform(UserError):
    """JAX has no device of that platform on this machine."""


@dataclass(frozen=True)
class Compare:
    """Run the same SGD steps on every device and hold each against the float64 evaluation.

    Exit status 0: all devices that run the kernel end in the same bits, and every number is finite. 1: not,
    or a device failed, or all are absent: XRT, a card or JAX's platform is not on this machine.

    Examples: fpga-bridge compare --preset enc2 --steps 20
              fpga-bridge compare --preset tiny --devices csim xrt:0 --json compare.json --picture drift.png
    """

    model: Annotated[ModelArgs, tyro.conf.arg(name="")] = field(default_factory=ModelArgs)
    steps: int = 20
    """Training sentences to step through, drawn from the training split."""
    devices: tuple[str, ...] = ("jax-cpu", "jax-gpu", "csim", "xrt:0")
    """Devices in the order of the table: jax-cpu, jax-gpu, csim, xrt:INDEX, xrt:BDF."""
    xclbin: Path | None = None
    """The card's program; the simulated U50 makes its own."""
    timeout: float = 60
    """Seconds that one run on a card may take."""
    data: str | None = None
    """Corpus: a folder, "atis" or "travel". Default: $TTJAX_DATA, else ATIS if it is cached or can be
    fetched, else travel, which is synthetic."""
    rate: float = 1e-3
    """Learning rate of every step."""
    seed: int = 0
    """Of the parameters' start and of the sentences drawn."""
    picture: Path | None = None
    """File for the drift by step as a picture (.png, .svg or .pdf)."""
    json: str | None = None
    """File for the findings as JSON; - for standard output."""

    def run(self) -> int:
        """Run, print, write, draw; returns the exit status."""
        out = Output(self.json)
        check_apart([("--json", self.json), ("--picture", self.picture)], [("--xclbin", self.xclbin)])
        for name in self.devices:
            if name not in JAX_DEVICES:
                _check(name)
        if self.picture is not None:
            check_picture(self.picture, "--picture")
        check_run(self.steps, self.rate, self.seed, self.timeout)
        if self.xclbin is not None:
            if not any(name.startswith("xrt:") for name in self.devices):
                raise UserError("--xclbin is a card's program: expected an xrt: among --devices, found none")
            check_xclbin_file(self.xclbin)
        if len(set(self.devices)) != len(self.devices) or not self.devices:
            raise UserError(f"--devices: expected each once, found {' '.join(self.devices) or 'none'}")
        corpus = load_corpus(self.data, notify=out.say)
        config, batch = draw_sentences(corpus, self.model.config(), self.steps, self.seed)
        out.say(self.model.line(config))
        params = init_params(jax.random.key(self.seed), config)
        findings, kernels = [], []
        with out.console.status("float64 evaluation") as status:
            cpu = jax.devices("cpu")[0]
            truth = jax_course(config, params, batch, self.rate, cpu, np.float64, timed=False)
            _check_truth(truth)
            for name in self.devices:
                status.update(name)
                try:
                    label, course = self._course(name, config, params, batch)
                except (MissingXrt, MissingPlatform) as error:
                    findings.append(Finding(name, absent=str(error)))
                    continue
                except UserError as error:
                    # Of one device alone: what is wrong with the options was refused above.
                    findings.append(Finding(name, failed=str(error)))
                    continue
                findings.append(judge(label, course, truth))
                if name not in JAX_DEVICES:
                    kernels.append(course)
        same = same_end(kernels) if len(kernels) > 1 else None
        title = (
            f"{self.model.preset} on {title_of(corpus.identity)}, {self.steps} steps: error against float64"
        )
        out.console.print(_table(title, findings))
        for finding in findings:
            if finding.absent is not None:
                out.say(f"{finding.device} absent: {finding.absent}")
            if finding.failed is not None:
                out.say(f"{finding.device} FAILED: {finding.failed}")
        if same is not None:
            out.say(f"the kernel's devices end in {'the same bits' if same else 'OTHER BITS'}")
        out.write_json(
            {
                "preset": self.model.preset,
                "config": dataclasses.asdict(config),
                "data": corpus.identity,
                "steps": self.steps,
                "rate": self.rate,
                "seed": self.seed,
                "versions": versions(("jax", "jaxlib", "numpy")),
                "same_bits": same,
                "devices": [_row(finding) for finding in findings],
            }
        )
        if self.picture is not None:
            draw_drift(findings, title, self.picture)
            out.say(f"drift by step: {self.picture}")
        ran = [finding for finding in findings if finding.absent is None]
        return 0 if ran and all(finding.finite for finding in ran) and same is not False else 1

    def _course(self, name: str, config: ModelConfig, params: Params, batch: Batch) -> tuple[str, Course]:
        """What to call the device, and its course."""
        if name in JAX_DEVICES:
            on = _jax_device(JAX_DEVICES[name])
            return f"{name} ({on.device_kind})", jax_course(config, params, batch, self.rate, on)
        xclbin = None if name == "csim" else self.xclbin
        opened = open_device(name, config, xclbin=xclbin, timeout=self.timeout)
        return opened.label, kernel_course(opened.device, params, batch, self.rate)


def draw_drift(findings: list[Finding], title: str, path: Path) -> None:
    """Parameter error by step, and below by how much it is another than the first device's: a line for each.

    Raises:
        UserError: matplotlib is missing, or the file can't be written.
    """
    figure, (error, other) = subplots(
        2, 1, figsize=(8, 7), sharex=True, gridspec_kw={"height_ratios": [2, 1]}
    )
    present = [finding for finding in findings if finding.drift]
    for rank, finding in enumerate(present):
        steps, drift = [*finding.drift], np.array([*finding.drift.values()])
        reference = np.array([*present[0].drift.values()])
        # Lines that lie on each other: wide and solid below, narrow and broken above, so that all are seen.
        twin = next((f.device for f in present[:rank] if f.drift == finding.drift), None)
        look = {
            "label": finding.device if twin is None else f"{finding.device}, equal to {twin}",
            "linewidth": 1.5 if twin else max(4 - rank, 2),
            "linestyle": "--" if twin else "-",
            "marker": "osD^v"[rank % 5],
            "markersize": 5,
            # Few of them, each device's elsewhere.
            "markevery": (rank * (1 + len(steps) // 40) % len(steps), 1 + len(steps) // 10),
        }
        error.plot(steps, drift, **look)
        with np.errstate(divide="ignore", invalid="ignore"):
            other.plot(steps, 100 * (drift / reference - 1), **look)
    error.axhline(2.0**-24, color="grey", linestyle=":", label="float32 rounds to 2⁻²⁴")
    error.set(ylabel="‖parameters − float64‖ / ‖float64‖", yscale="log")
    error.set_title(title, wrap=True)
    first = present[0].device if present else "none"
    other.set(xlabel="SGD step, one sentence each", ylabel=f"% above {first}")
    other.xaxis.get_major_locator().set_params(integer=True)
    for axes in (error, other):
        axes.grid(which="both", alpha=0.25)
    error.legend()
    save(figure, path, "--picture")


def _check_truth(truth: Course) -> None:
    """Refuses a rate with which there is nothing to compare with.

    Raises:
        UserError: a loss, or a parameter at the end, isn't finite.
    """
    last = truth.states[max(truth.states)].values()
    if not (np.isfinite(truth.losses).all() and all(np.isfinite(array).all() for array in last)):
        raise UserError("the float64 evaluation diverges: expected finite numbers throughout: lower --rate")


def _table(title: str, findings: list[Finding]) -> Table:
    table = Table("device", title=escape(title), title_style="", box=box.SIMPLE_HEAD)
    for column in ("parameters", "worst parameter", "loss", "ms a step"):
        table.add_column(column, justify="right")
    for f in findings:
        if f.parameter_error is None:
            table.add_row(f.device, "absent" if f.failed is None else "FAILED", "", "", "")
        else:
            worst = f"{f.worst} {f.worst_error:.1e}"
            cells = (f"{f.parameter_error:.1e}", worst, f"{f.loss_error:.1e}", f"{f.ms_per_step:.2f}")
            table.add_row(f.device, *cells)
    return table


def _jax_device(platform: str) -> Any:
    try:
        return jax.devices(platform)[0]
    except RuntimeError as error:
        reason, install = " ".join(str(error).split()), ""
        if platform == "gpu":
            install = "install JAX for it (pip install 'ttjax-fpga[gpu]'), or "
        raise MissingPlatform(f"JAX has no {platform} here ({reason}); {install}leave it out") from None


def _check(name: str) -> None:
    try:
        check_name(name)
    except UserError:
        expected = ", ".join((*JAX_DEVICES, "csim", "xrt:INDEX", "xrt:BDF"))
        raise UserError(f"--devices: unknown device {name!r}: expected one of {expected}") from None


def _row(finding: Finding) -> dict[str, Any]:
    """A finding as JSON values."""
    row = dataclasses.asdict(finding)
    numbers = {key: json_number(value) for key, value in row.items() if isinstance(value, float)}
    return row | numbers | {"drift": {step: json_number(error) for step, error in finding.drift.items()}}
