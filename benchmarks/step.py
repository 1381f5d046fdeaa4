"""Times a training step of ours beside the same model in PyTorch, and beside dense; minutes are with --epoch.

How: every row is a training of its own (forward, backward, SGD update, float32) on sentences without
padding. It carries its parameters on from step to step, and each slice of time is waited out: no work can be
left out or be done only once. Two passes before the timing compile everything and hold the losses of all
trainings of one model against each other: they must be the same training. Then the rows take turns, each in
slices of whole passes through the pool, in another order every round. A row's time is the median over the
rounds, its spread the quartiles.

"ttjax ..." rows are compiled scans, as an epoch is, but for "a call a step". FactorizedLinear is
tensorly-torch's. It has no plain TT, but its BlockTT with modes of 1 is exactly ours ("matrix": it forms W);
its usual form, three cores of paired modes, would be another model. "In order" is torch.einsum without
opt_einsum. Multiplications are those in matrix products, counted by tracing each program (torch: by its
operation counter). GFLOP/s are two of them a time; the peak is the best float32 product of numpy, jax and
torch on the same cores.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

# Nothing that starts threads is imported up here: they would not be held to --threads.
if TYPE_CHECKING:
    from benchmarks.jax_steps import Case
    from benchmarks.timing import Row, Training

MINUTES = 5.0  # with --epoch, as the list says: more than the command as it is


@dataclass(frozen=True)
class Step:
    """Time one training step of ours against PyTorch and against dense, all in one run.

    Examples: python -m benchmarks.step --json step.json --plot step.png
              python -m benchmarks.step --blocks 2 4 6 --epoch
              python -m benchmarks.step --batch 1 8 32 --threads 2
              python -m benchmarks.step --ranks 4 8 12 24 48 --no-peers
    """

    preset: str = "enc2"
    """Model: enc2, enc4, enc6 (the paper's) or tiny."""
    blocks: tuple[int, ...] = ()
    """Numbers of encoder blocks, each a case of its own. Default: the preset's."""
    batch: tuple[int, ...] = (1,)
    """Sentences a step, each a case of its own. The loss is their mean."""
    ranks: tuple[int, ...] = ()
    """Time our tensor model at these ranks too, to see where it stops being faster than dense."""
    tokens: int | None = None
    """Tokens of a sentence. Default: the preset's, 32."""
    threads: int = 1
    """Cores for everything: this process keeps to so many of those it may use."""
    epoch: bool = False
    """Time a whole epoch of ATIS too, of the first of --blocks at batch 1; needs the corpus, in $TTJAX_DATA
    or in the user's cache."""
    peers: bool = True
    """PyTorch's rows. Without them no ratio to a peer is measured."""
    rounds: int = 11
    """How often each row gets its turn."""
    slice: float = 0.4
    """Least seconds of a turn."""
    steps: int = 20
    """Steps in the pool that a training goes through over and over."""
    json: str | None = None
    """File for machine, versions, rows and goals as JSON; - for standard output."""
    plot: Path | None = None
    """File for the bars; needs matplotlib."""

    def run(self) -> int:
        """Time, print, draw, write; returns exit status 0."""
        from benchmarks import jax_steps, report, timing
        from ttjax.output import Output, check_apart
        from ttjax.provenance import processor

        out = Output(self.json)
        check_apart([("--json", self.json), ("--plot", self.plot)])
        self._check()
        cases = self._cases()
        out.say(f"{self._what(cases)}; each of {self.rounds} rounds in slices of {self.slice:g} s or more")
        machine = timing.machine()
        peaks = [timing.matmul_peak()]
        rows: list[Row] = []
        timed: list[tuple[Row, Training]] = []

        def tell(text: str = ".") -> None:
            out.console.print(text, end="")

        tell("preparing ")
        for case in cases:
            for name, make in self._trainings(case).items():
                tell()
                rows.append(row := timing.Row(name, case.label))
                try:
                    training = make()
                except timing.NotRun as reason:
                    row.not_run = str(reason)
                    continue
                row.multiplications = training.multiplications
                timed.append((row, training))
        tell(" compiling ")
        timing.warm_up(timed, tell)
        tell(" timing ")
        timing.time_in_turn(timed, self.rounds, self.slice, tell)
        out.say("")
        epoch, epoch_line = [], "epoch: not asked for"
        if self.epoch:
            try:
                epoch, n = jax_steps.epoch_seconds(cases[0].config, None, 3)
                listed = ", ".join(f"{seconds:.2f}" for seconds in epoch)
                epoch_line = (
                    f"epoch: {listed} s for {n} sentences, tensor, {cases[0].config.n_blocks} blocks, batch 1"
                )
            except timing.NotRun as reason:
                epoch_line = f"epoch: not run: {reason}"
        peaks.append(timing.matmul_peak())
        peak = {name: max(p[name] for p in peaks) for name in peaks[0]}

        best = max(peak.values())
        for case in cases:
            out.console.print(report.table(case.label, [r for r in rows if r.case == case.label], best))
        out.say("peak: " + ", ".join(f"{name} {p:.1f} GFLOP/s" for name, p in peak.items()))
        rank_lines = [report.rank_line(rows, c.label, self._rank_names()) for c in cases if self.ranks]
        goal_cases = self._goal_cases(cases)
        counts = 2 in goal_cases and cases[0].config.n_blocks == 2
        found = report.goals(rows, goal_cases, epoch if counts else [])
        lines = [*rank_lines, epoch_line, *report.not_run_lines(rows), "goals:", *(g.line() for g in found)]
        for line in lines:
            out.say(line)
        out.write_json(
            {
                "machine": machine,
                "preset": self.preset,
                "tokens": cases[0].config.seq_len,
                "blocks": list(dict.fromkeys(case.config.n_blocks for case in cases)),
                "batch": list(self.batch),
                "ranks": list(self.ranks),
                "peers": self.peers,
                "threads": self.threads,
                "rounds": self.rounds,
                "slice_seconds": self.slice,
                "steps_in_pool": self.steps,
                "peak_gflops": peak,
                "rows": [
                    row.summary() | ({} if row.not_run else {"share_of_peak": row.gflops / best})
                    for row in rows
                ],
                "epoch": {"seconds": epoch, "line": epoch_line},
                "not_run": sum(row.not_run is not None for row in rows),
                "goals": [goal.summary() for goal in found],
            }
        )
        if self.plot is not None:
            report.draw(rows, self.plot, f"A training step of {self._what(cases)} of {processor()}")
            out.say(f"written: {self.plot}")
        return 0

    def _check(self) -> None:
        """Before the minutes of work, what would fail after them."""
        from ttjax.data import load_corpus
        from ttjax.errors import UserError, check_count
        from ttjax.picture import check_picture

        if not 1 <= self.threads <= (allowed := len(_allowed())):
            raise UserError(f"--threads: expected 1 to the {allowed} cores there are, found {self.threads}")
        check_count("--rounds", self.rounds)
        check_count("--steps", self.steps)
        if not 0 < self.slice < math.inf:
            raise UserError(f"--slice: expected a finite number of seconds above 0, found {self.slice}")
        if not self.batch or min(self.batch) < 1:
            raise UserError(f"--batch: expected whole numbers from 1 up, found {self.batch}")
        if self.plot is not None:
            check_picture(self.plot, "--plot")
        if self.epoch:
            load_corpus(None, fetch=False, notify=lambda _: None)  # $TTJAX_DATA may name none

    def _cases(self) -> list[Case]:
        from benchmarks.jax_steps import Case
        from ttjax.config import preset

        # What a step keeps or makes again is the kernel's business; it would only set the presets apart.
        base = preset(self.preset).replace(rederive=False)
        base = base.replace(seq_len=self.tokens) if self.tokens is not None else base
        for rank in self.ranks:
            base.with_rank(rank)
        return [
            Case(f"{blocks} blocks, batch {batch}", base.replace(n_blocks=blocks), batch, self.steps)
            for blocks in self.blocks or (base.n_blocks,)
            for batch in self.batch
        ]

    def _what(self, cases: Sequence[Case]) -> str:
        """What all cases share, for people."""
        cores = "1 core" if self.threads == 1 else f"{self.threads} cores"
        return f"{self.preset}, {cases[0].config.seq_len} tokens, on {cores}"

    def _trainings(self, case: Case) -> dict[str, Callable[[], Training]]:
        """What makes each row of a case, by its name, in the order shown."""
        from benchmarks import jax_steps as ours
        from benchmarks import report
        from benchmarks.torch_steps import by_torch

        rows: dict[str, Callable[[], Training]] = {
            report.OURS: partial(ours.by_scan, case),
            "ttjax, right_to_left": partial(ours.by_scan, case, "right_to_left"),
            "ttjax, planned": partial(ours.by_scan, case, "planned"),
            "ttjax, dense from cores": partial(ours.by_scan, case, "dense"),
            report.OURS_DENSE: partial(ours.by_scan, case, format="dense"),
        }
        if case.batch == 1:
            rows |= {
                "ttjax, a call a step": partial(ours.by_calls, case),
                "ttjax, no optax": partial(ours.by_plain_update, case),
                "ttjax, flax modules": partial(ours.by_flax_modules, case),
            }
        for rank, name in self._rank_names().items():
            rows[name] = partial(ours.by_scan, case, rank=rank)
        if self.peers:
            rows |= {
                report.FACTORIZED[0]: partial(by_torch, case, "factorized"),
                report.FACTORIZED[1]: partial(by_torch, case, "factorized", in_order=True),
                report.FACTORIZED[2]: partial(by_torch, case, "reconstructed"),
                report.EINSUM[0]: partial(by_torch, case, "einsum"),
                report.EINSUM[1]: partial(by_torch, case, "einsum", in_order=True),
                "torch einsum, compiled": partial(by_torch, case, "einsum", compiled=True),
                report.HALVES[0]: partial(by_torch, case, "halves"),
                report.HALVES[1]: partial(by_torch, case, "halves", compiled=True),
                "torch dense": partial(by_torch, case, "dense"),
                "torch dense, compiled": partial(by_torch, case, "dense", compiled=True),
            }
        return rows

    def _rank_names(self) -> dict[int, str]:
        return {rank: f"ttjax, rank {rank}" for rank in self.ranks}

    def _goal_cases(self, cases: Sequence[Case]) -> dict[int, str]:
        """Cases that the goals are about, by number of blocks: the paper's sizes, one sentence, one core."""
        if self.preset == "tiny" or self.tokens not in (None, 32) or self.threads != 1:
            return {}
        return {case.config.n_blocks: case.label for case in cases if case.batch == 1}


def _allowed() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def main(args: Sequence[str] | None = None) -> int:
    """Hold the process to its cores, then run; returns the exit status."""
    step: Any = tyro.cli(Step, prog="python -m benchmarks.step", args=args)
    if 1 <= step.threads <= len(_allowed()) and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, _allowed()[: step.threads])
    # The libraries start as many threads as there are cores for the process when they are imported.
    from ttjax.cli import exit_status

    return exit_status(step.run)


if __name__ == "__main__":
    sys.exit(main())
