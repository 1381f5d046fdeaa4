"""The command `fpga-bridge cycles`: cycles, area and energy of a training step, as a model gives them."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from fpga_bridge.cycles.counted import differences
from fpga_bridge.cycles.model import make_step_model
from fpga_bridge.cycles.report import figures, remarks, stage_table, step_table, unit_table
from fpga_bridge.cycles.roofline import draw, kinds
from fpga_bridge.program.accelerator import Accelerator
from ttjax import Batch, ModelConfig, UserError
from ttjax.cli_model import ModelArgs
from ttjax.data import build_vocabulary, config_for, encode, load_corpus
from ttjax.output import Output, check_apart
from ttjax.picture import check_results_folder

CLOCKS = (100.0, 300.0)  # MHz


@dataclass(frozen=True)
class Cycles:
    """Show the cycles of a training step by stage and unit, the engine's utilisation, DSP blocks and energy.

    Trips and cycles are what C simulation counts (--count holds them against it, for --clock-class);
    latencies are published ones, for a relaxed, a typical and a fast clock. Nothing here comes from a
    synthesis or from a card.
    Exit status 1: with --count, the kernel counts other trips or cycles.

    Examples: fpga-bridge cycles --preset enc2
              fpga-bridge cycles --preset enc2 --length 12 --clock 250 --json - --out results
              fpga-bridge cycles --preset enc6 --tile-rows 8 --sum-distance 9
              fpga-bridge cycles --preset tiny --count
    """

    model: Annotated[ModelArgs, tyro.conf.arg(name="")] = field(default_factory=ModelArgs)
    accelerator: Annotated[Accelerator, tyro.conf.arg(name="")] = field(default_factory=Accelerator)
    length: int | None = None
    """Tokens of the sentence, [CLS] included. Default: the longest the model takes."""
    clock: float = 200.0
    """MHz, from 100 to 300."""
    data: str | None = None
    """Corpus for the mean over sentences: a folder, "atis" or "travel". Default as in cosim."""
    count: bool = False
    """Build the kernel, run a sentence of --length on it, and hold what it counts against these."""
    out: Path | None = None
    """Folder for roofline.png: the engine's contractions against its peak and its memories."""
    json: str | None = None
    """File for the figures as JSON; - for standard output."""

    def run(self) -> int:
        """Print the tables, count, draw, write; returns the exit status."""
        out = Output(self.json)
        picture = None if self.out is None else self.out / "roofline.png"
        check_apart([("--json", self.json), ("--out", picture)])
        if not CLOCKS[0] <= self.clock <= CLOCKS[1]:
            raise UserError(f"--clock: expected 100 to 300 MHz, found {self.clock:g}")
        if self.out is not None:
            check_results_folder(self.out)
        start = self.model.config()
        length = start.seq_len if self.length is None else self.length
        if not 2 <= length <= start.seq_len:
            raise UserError(f"--length: expected 2 to {start.seq_len} tokens, found {length}")
        corpus = load_corpus(self.data, notify=out.say)
        vocabulary = build_vocabulary(corpus, start.vocab_size)
        config = config_for(start, vocabulary)
        lengths = Counter(map(int, encode(corpus.train, vocabulary, config.seq_len).batch.length))
        out.say(self.model.line(config))
        model = make_step_model(config, self.accelerator)
        found = figures(model, length, lengths, self.clock)
        for table in (stage_table(found), unit_table(found), step_table(found)):
            out.console.print(table)
        for line in remarks(found):
            out.say(line)
        differing: list[str] | None = None
        if self.count:
            with out.console.status("building the kernel and counting"):
                differing = differences(config, self.accelerator, _sentence(config, length))
            out.say(f"counted by the kernel: {differing[0] if differing else 'the same trips and cycles'}")
        if picture is not None:
            title = f"{self.model.preset}: the engine in a step of {length} tokens"
            draw(kinds(model, length, "typical"), self.accelerator.macs, title, picture)
            out.say(f"picture: {picture}")
        out.write_json(
            {
                "preset": self.model.preset,
                "config": asdict(config),
                "accelerator": asdict(self.accelerator),
                "data": corpus.identity,
                **found,
                "counted_differences": differing,
            }
        )
        return 1 if differing else 0


def _sentence(config: ModelConfig, length: int) -> Batch:
    """Some sentence of that length, with tokens that repeat some digits."""
    tokens = np.arange(config.seq_len, dtype=np.int32)[None] * 7 % config.vocab_size
    zeros = np.zeros_like(tokens)
    return Batch(tokens=tokens, length=np.array([length], np.int32), intent=zeros[:, 0], slots=zeros)
