"""The command `fpga-bridge cosim`: real sentences through the kernel and through JAX, step by step."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple, cast, get_args

import jax
import numpy as np
import tyro
from jaxtyping import Float32
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

from fpga_bridge.agreement.criterion import Criterion
from fpga_bridge.agreement.kept import check_keep, keep_arrays, read_input
from fpga_bridge.agreement.lockstep import Mode, Report, cosimulate
from fpga_bridge.agreement.report import stage_table, summary, to_json
from fpga_bridge.cli.steps import check_run, draw_sentences
from fpga_bridge.devices.by_name import Opened, check_name, check_xclbin, open_csim, open_device, sensors_of
from fpga_bridge.kernel.faults import find_fault
from ttjax import Batch, ModelConfig, Params, UserError, init_params
from ttjax.cli_model import ModelArgs
from ttjax.data import load_corpus
from ttjax.data.corpus import title_of
from ttjax.output import Output, check_apart

KEEP = Path("cosim-divergence.npz")


@dataclass(frozen=True)
class Cosim:
    """Run the same SGD steps on the kernel (C simulation or XRT) and on JAX, and compare every stage.

    Exit status 0: every trace point of every step agrees. 1: the first that does not is named; or NO VERDICT,
    since the steps diverge, or since zeros would agree too at half or more of a step's points in a column of
    the table: the error allowed there is as large as the value.

    Examples: fpga-bridge cosim --preset enc2 --steps 20
              fpga-bridge cosim --preset tiny --mode isolated --json report.json
              fpga-bridge cosim --preset tiny --fault dropped_mask
              fpga-bridge cosim --preset tiny --replay cosim-divergence.npz
              fpga-bridge cosim --preset enc2 --device xrt:0
    """

    model: Annotated[ModelArgs, tyro.conf.arg(name="")] = field(default_factory=ModelArgs)
    steps: int = 20
    """Training sentences to step through, drawn from the training split."""
    mode: str = "locked"
    """locked: each step starts from the device's state. free: all run on alone, to see the drift; after many
    steps it can be too large for a verdict.
    isolated: each stage gets the float64 evaluation's inputs, so that its error is its own."""
    data: str | None = None
    """Corpus: a folder, "atis" or "travel". Default: $TTJAX_DATA, else ATIS if it is cached or can be
    fetched, else travel, which is synthetic."""
    rate: float = 1e-3
    """Learning rate of every step."""
    seed: int = 0
    """Of the parameters' start and of the sentences drawn."""
    multiple: float = Criterion.multiple
    """Agreement: the device's error may be this many times float32's own."""
    fault: str | None = None
    """Plant a fault in the kernel before it is built; `fpga-bridge faults --list` names them."""
    kernel: Path | None = None
    """A kernel built before by `fpga-bridge build`, instead of building it now."""
    device: str = "csim"
    """Where the kernel runs: csim, or through XRT on xrt:INDEX or xrt:BDF. On a machine without the vendor's
    XRT that is a simulated U50, and every output says so."""
    xclbin: Path | None = None
    """The card's program. Default on the simulated U50: one made for this configuration."""
    timeout: float = 60
    """Seconds that one run on a card may take."""
    keep: Path = KEEP
    """Where the arrays of both sides go if a step disagrees."""
    replay: Path | None = None
    """Run the one step again whose arrays were kept in that file, in place of sentences and parameters of
    --data, --steps, --rate and --seed. The model's options must be those of that run: others are refused.
    What earlier steps had left in other memories of the chip is not in the file."""
    json: str | None = None
    """File for the report as JSON; - for standard output."""

    def run(self) -> int:
        """Run, print, write; returns the exit status."""
        out = Output(self.json)
        built = [("--kernel", self.kernel), ("--xclbin", self.xclbin)]
        check_apart([("--json", self.json)], [("--replay", self.replay), ("--keep", self.keep), *built])
        # In the place of the step that is run again a disagreement's arrays are welcome: it is that step.
        check_apart([("--keep", self.keep)], built)
        fault = None if self.fault is None else find_fault(self.fault)
        if fault is not None and self.kernel is not None:
            raise UserError("expected --fault or --kernel, found both: a fault is planted in a fresh build")
        check_name(self.device)
        check_xclbin(self.device, self.xclbin)
        if self.device != "csim" and (fault is not None or self.kernel is not None):
            raise UserError(
                "--fault and --kernel are for csim: expected --device csim, or neither of the two"
            )
        if self.mode not in get_args(Mode):
            raise UserError(f"unknown mode {self.mode!r}: expected one of {', '.join(get_args(Mode))}")
        criterion = Criterion(multiple=self.multiple)
        # Where nobody asked for arrays and all should agree, none are written: any folder will do.
        if fault is not None or self.keep != KEEP:
            check_keep(self.keep)
        check_run(self.steps, self.rate, self.seed, self.timeout)
        config, params, batch, rates, origin = self._given(out)
        out.say(self.model.line(config))
        with out.console.status("building the kernel"):
            if fault is not None or self.kernel is not None:
                opened = Opened(open_csim(config, fault, self.kernel), "csim", True)
            else:
                opened = open_device(self.device, config, xclbin=self.xclbin, timeout=self.timeout)
        out.say(f"device: {opened.label}" + ("" if opened.device.taps else ", built without taps"))
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with out.progress(*columns) as progress:
            task = progress.add_task(f"{self.mode} steps", total=len(rates))
            report = cosimulate(
                opened.device,
                params,
                batch,
                rates,
                mode=cast(Mode, self.mode),
                criterion=criterion,
                progress=lambda: progress.advance(task),
            )
        out.console.print(stage_table(report))
        for line in summary(report, opened.label):
            out.say(line)
        out.write_json(self._json(report, config, origin, opened))
        if report.failing:
            try:
                keep_arrays(report.failing, config, origin["data"], self.keep)
                out.say(f"arrays of both sides: {self.keep}")
            except UserError as error:
                # What was found stays found: the report is written and the status is that of the steps.
                out.say(f"arrays not kept: {error}")
        return 0 if report.agree else 1

    def _given(self, out: Output) -> _Given:
        """What is run: sentences of the corpus from fresh parameters, or the step that was kept."""
        start = self.model.config()
        if self.replay is not None:
            config, data, step = read_input(self.replay, start)
            out.say(f"step: the one kept in {self.replay}, rate {step.rate:g}, on {title_of(data)}")
            batch = Batch(*(np.asarray(field)[None] for field in step.sentence))
            origin = {"data": data, "replay": str(self.replay), "rate": step.rate}
            return _Given(config, step.params, batch, np.full(1, step.rate, np.float32), origin)
        corpus = load_corpus(self.data, notify=out.say)
        config, batch = draw_sentences(corpus, start, self.steps, self.seed)
        params = init_params(jax.random.key(self.seed), config)
        origin = {"data": corpus.identity, "rate": self.rate, "seed": self.seed}
        return _Given(config, params, batch, np.full(self.steps, self.rate, np.float32), origin)

    def _json(
        self, report: Report, config: ModelConfig, origin: dict[str, Any], opened: Opened
    ) -> dict[str, Any]:
        return {
            **to_json(report),
            "preset": self.model.preset,
            "config": dataclasses.asdict(config),
            **origin,
            "fault": self.fault,
            "device": opened.label,
            "simulated": opened.simulated,
            "taps": opened.device.taps,
            "sensors": sensors_of(opened.device),
        }


class _Given(NamedTuple):
    """A run's model, parameters, sentences and rates, and what its JSON says of where they are from."""

    config: ModelConfig
    params: Params
    batch: Batch
    rates: Float32[np.ndarray, " n"]
    origin: dict[str, Any]
