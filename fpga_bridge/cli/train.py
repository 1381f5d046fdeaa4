"""The command `fpga-bridge train`: `ttjax train`, with a device that runs the kernel in JAX's place."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from fpga_bridge.devices.by_name import check_name, check_xclbin, open_device, sensors_of
from fpga_bridge.devices.host import check_timeout
from fpga_bridge.training import report
from fpga_bridge.training.run import PER_CALL, JaxBeside, KernelTrainer, check_recipe
from ttjax.cli_train import Train
from ttjax.data import load_corpus
from ttjax.errors import check_count
from ttjax.output import Output
from ttjax.picture import check_results_folder
from ttjax.training_run import Run


@dataclass(frozen=True)
class KernelTrain(Train):
    """Train whole epochs on the kernel, with the recipe, sentences and checkpoints of `ttjax train`.

    Dev is scored after each epoch, and test at the end, by the kernel's own predictions. JAX trains the same
    run beside it, from the same start on the same sentences.

    Examples: fpga-bridge train --preset enc2 --epochs 10 --checkpoint run.safetensors
              fpga-bridge train --resume run.safetensors
              fpga-bridge train --preset tiny --data travel --epochs 2 --limit 300 --no-beside-jax
              fpga-bridge train --preset enc2 --epochs 10 --device xrt:0 --out results
    """

    flow: str | None = None
    """Contraction flow: bidirectional, the only one that the kernel does."""
    optimizer: str | None = None
    """sgd, the only one that the kernel does."""
    device: str = "csim"
    """Where the kernel runs: csim, or through XRT on xrt:INDEX or xrt:BDF. On a machine without the vendor's
    XRT that is a simulated U50, and every output says so."""
    xclbin: Path | None = None
    """The card's program. Default on the simulated U50: one made for this configuration."""
    timeout: float = 60
    """Seconds that one run on a card may take; a call is one or more."""
    per_call: int = PER_CALL
    """Sentences that the device gets in one call. After each the loss is shown and the drift measured."""
    beside_jax: bool = True
    """Train on JAX too, to compare with. Resuming, JAX does the epochs again that the checkpoint has."""
    out: Path | None = None
    """Existing folder for kernel_training.json and kernel_training.png: drift by step, scores by epoch."""

    def run(self) -> int:
        """Train, print, draw, write; returns exit status 0."""
        out = Output(self.json)
        check_name(self.device)
        check_xclbin(self.device, self.xclbin)
        check_timeout(self.timeout)
        check_count("--per-call", self.per_call)
        if self.out is not None:
            check_results_folder(self.out)
        plan = self.plan()
        check_recipe(plan.recipe)
        run = Run.of(plan, load_corpus(plan.data, notify=out.say))
        with out.console.status("building the kernel"):
            opened = open_device(self.device, run.config, xclbin=self.xclbin, timeout=self.timeout)
        run = dataclasses.replace(run, device=opened.label)
        out.say(f"device: {opened.label}, {self.per_call} sentences a call")
        for fact in run.facts():
            out.say(fact)
        beside = JaxBeside(run) if self.beside_jax else None
        trainer = KernelTrainer(run, opened.device, self.per_call, beside)
        try:
            results = run.train(out, trainer, report.line)
        except KeyboardInterrupt:
            if plan.target is not None and plan.target.exists():
                out.say(f"stopped: go on with fpga-bridge train --resume {plan.target}")
            raise
        results |= {
            "device": opened.label,
            "simulated": opened.simulated,
            "sensors": sensors_of(opened.device),
            "per_call": self.per_call,
        }
        if beside is not None:
            beside.catch_up(len(results["epochs"]), self.per_call)
            results["jax"] = {"test": beside.evaluate(run.corpus.test)}
        results["compared"] = report.compared(results)
        if results["compared"]:
            out.console.print(report.table(results))
        if self.out is not None:
            for path in report.write(results, self.out):
                out.say(f"written: {path}")
        self._finish(results, out)
        return 0

    def _results(self) -> list[tuple[str, str | Path | None]]:
        of_out = [] if self.out is None else [self.out / f"{report.NAME}{kind}" for kind in (".json", ".png")]
        return [*super()._results(), *(("--out", path) for path in of_out)]

    def _inputs(self) -> list[tuple[str, str | Path | None]]:
        return [*super()._inputs(), ("--xclbin", self.xclbin)]
