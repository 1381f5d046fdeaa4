"""The command `fpga-bridge faults`: plants every known fault and checks that the right stage is named."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import jax
import numpy as np
import tyro
from rich.table import Table

from fpga_bridge.agreement.lockstep import Report, cosimulate
from fpga_bridge.cli.steps import draw_sentences
from fpga_bridge.devices.by_name import open_csim
from fpga_bridge.kernel.faults import FAULTS, Fault
from ttjax import Batch, ModelConfig, UserError, init_params
from ttjax.cli_model import ModelArgs
from ttjax.data import load_corpus
from ttjax.output import Output

STEPS = 2


@dataclass(frozen=True)
class Faults:
    """Prove that the agreement check can fail: plant each known fault, see it named where it must be.

    Exit status 0: every fault was found where it must be. 1: one was not.

    Examples: fpga-bridge faults --preset tiny
              fpga-bridge faults --list
    """

    model: Annotated[ModelArgs, tyro.conf.arg(name="")] = field(
        default_factory=lambda: ModelArgs(preset="tiny")
    )
    data: str | None = "travel"
    """Corpus: a folder, "atis" or "travel"."""
    list: bool = False
    """Only list the faults."""
    json: str | None = None
    """File for the findings as JSON, with the corpus; - for standard output."""

    def run(self) -> int:
        """Plant, compare, print; returns the exit status."""
        out = Output(self.json)
        if self.list:
            table = Table("fault", "what it does", "file")
            for fault in FAULTS.values():
                table.add_row(fault.name, fault.what, fault.file)
            out.console.print(table)
            out.write_json([{"fault": f.name, "what": f.what, "file": f.file} for f in FAULTS.values()])
            return 0
        for name in ("immediate", "rederive", "recompute", "frozen"):
            if getattr(self.model, name) is not None:
                raise UserError(
                    f"--{name}: expected none, since where each fault must show is known for the preset's own"
                    " setting only: leave it out"
                )
        corpus = load_corpus(self.data, notify=out.say)
        config, batch = draw_sentences(corpus, self.model.config(), STEPS, seed=0)
        table = Table("fault", "must show first at", "found first at", "")
        findings = []
        with out.progress() as progress:
            for fault in progress.track(FAULTS.values(), description="planting faults"):
                report = plant(fault, config, batch)
                first = report.first_divergence
                step, found = (None, None) if first is None else (first.step, first.name)
                expected = fault.first_point(config)
                # A later step will do: a sentence without padding, say, shows no fault of padding.
                right = step is not None and step >= fault.step and found == expected
                table.add_row(
                    fault.name,
                    f"step {fault.step + 1} or later, {expected}" if fault.step else expected,
                    "nowhere" if step is None else f"step {step + 1}, {found}",
                    "found" if right else "MISSED",
                )
                findings.append({"fault": fault.name, "found_at": found, "step": step, "right": right})
        out.console.print(table)
        missed = sum(not finding["right"] for finding in findings)
        out.say(f"{len(findings) - missed} of {len(findings)} faults found at the right first point")
        out.write_json({"data": corpus.identity, "findings": findings})
        return 1 if missed else 0


def plant(fault: Fault, config: ModelConfig, batch: Batch) -> Report:
    """Locked co-simulation of a kernel with the fault in it."""
    params = init_params(jax.random.key(0), config)
    rates = np.full(len(batch.length), 1e-2, np.float32)
    return cosimulate(open_csim(config, fault), params, batch, rates)
