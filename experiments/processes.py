"""Trainings in processes, each on a core of its own, going on from its checkpoint when it was killed.

A training has a folder for its job, its checkpoint, its log and, in the end, its result.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import queue
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ttjax.checkpoint import read_checkpoint
from ttjax.cli import exit_status
from ttjax.config import ModelConfig, fields_of_json
from ttjax.costs import step_multiplications
from ttjax.data import load_corpus
from ttjax.errors import UserError
from ttjax.output import Output, write_json
from ttjax.provenance import code_version, commit_of, processor
from ttjax.recipe import Recipe
from ttjax.training_run import Run, TrainingPlan

# Pinned before anything is imported that starts a thread for each core it may use.
_LAUNCH = (
    "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])});"
    " from experiments.processes import work; sys.exit(work(sys.argv[2]))"
)
_EPOCH = re.compile(r"epoch (\d+): ")  # as ``ttjax.cli_progress.epoch_line`` begins
_JOB, _CHECKPOINT, _LOG, _RESULT = "job.json", "checkpoint.safetensors", "log.txt", "result.json"

Result = dict[str, Any]  # what `ttjax train --json` gives, with "commits" and "cpu"


@dataclass(frozen=True)
class Job:
    """One training: all that its result depends on but the code and the machine.

    digest, sentences: of the corpus behind ``data``, and how many of its training sentences are used.
    note: what tells it apart for people, where the study changes more than the model.
    """

    preset: str
    config: ModelConfig
    recipe: Recipe
    data: str | None
    digest: str
    sentences: int
    note: str = field(default="", compare=False)

    @property
    def label(self) -> str:
        """For people: the model, and what differs most often between the trainings of a study."""
        ranks = sorted(set(self.config.tt_ranks[1:-1]))
        rank = f" rank {'/'.join(map(str, ranks))}" if self.config.format == "tt" else ""
        note = f", {self.note}," if self.note else ""
        return f"{self.preset} {self.config.format}{rank}{note} seed {self.recipe.seed}"

    @property
    def name(self) -> str:
        """Of its folder: the same for the same training, wherever the corpus was found."""
        parts = {**dataclasses.asdict(self), "data": None}
        del parts["note"]
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        return f"{self.preset}-{self.config.format}-seed{self.recipe.seed}-{digest[:12]}"

    @staticmethod
    def read(path: Path) -> tuple[Job, list[str]]:
        """The job of a folder, and the commits at which it was trained."""
        found = json.loads(path.read_text(encoding="utf-8"))
        config = ModelConfig(**fields_of_json(found["job"]["config"]))
        recipe = Recipe(**found["job"]["recipe"])
        return Job(**{**found["job"], "config": config, "recipe": recipe}), found["commits"]


def finished(job: Job, folder: Path) -> Result | None:
    """The result of the job's training in that folder of trainings; None if it isn't at its end."""
    path = folder / job.name / _RESULT
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def other_code(commits: Iterable[str]) -> str:
    """For a line about results that are used again: of which other commits than this one they are, if any."""
    others = sorted(set(commits) - {code_version()})
    return f" by other code than this ({', '.join(others)})" if others else ""


def log_of(job: Job, folder: Path) -> Path:
    """All that the job's training has said."""
    return folder / job.name / _LOG


def train_all(jobs: Sequence[Job], folder: Path, at_once: int, out: Output) -> list[tuple[Job, str]]:
    """Trains all jobs; returns those that failed, each with the reason."""
    cores: queue.Queue[int] = queue.Queue()
    for core in sorted(os.sched_getaffinity(0))[:at_once]:
        cores.put(core)
    failed: list[tuple[Job, str]] = []
    started: list[subprocess.Popen[str]] = []
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    # Epochs take minutes, so that the rate is one over all of the study.
    with (
        out.progress(*columns, speed_estimate_period=1e9) as progress,
        ThreadPoolExecutor(at_once) as pool,
    ):
        board = _Board(jobs, folder, progress, out)

        def train(job: Job) -> None:
            core = cores.get()
            try:
                why = _train_process(job, folder / job.name, core, started, board.epoch)
            finally:
                cores.put(core)
            if why is not None:
                failed.append((job, why))
            board.run(job, why)

        try:
            for done in [pool.submit(train, job) for job in jobs]:
                done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in started:
                process.kill()
            raise
    return failed


class _Board:
    """What the user sees meanwhile: a bar on a terminal, and a line for each epoch."""

    def __init__(self, jobs: Sequence[Job], folder: Path, progress: Progress, out: Output) -> None:
        self._progress, self._out, self._lock = progress, out, threading.Lock()
        self._done = {job: _epochs_done(folder / job.name / _CHECKPOINT) for job in jobs}
        self._runs, self._epochs = 0, sum(job.recipe.epochs for job in jobs)
        # A model of six blocks takes longer than one of two: an epoch counts for its multiplications.
        total = sum(job.recipe.epochs * _weight(job.config) for job in jobs)
        done = sum(epochs * _weight(job.config) for job, epochs in self._done.items())
        self._task = progress.add_task("trainings", total=total, completed=done, note=self._note())

    def epoch(self, job: Job, done: int, line: str) -> None:
        """So many epochs of the job are done; the last of them is told by ``line``."""
        with self._lock:
            more, self._done[job] = done - self._done[job], done
            self._progress.update(self._task, advance=more * _weight(job.config), note=self._note())
            self._out.say(f"{job.label}: {line}")

    def run(self, job: Job, why: str | None) -> None:
        """The job has ended; ``why``: the reason if it failed."""
        with self._lock:
            self._runs += 1
            self._progress.update(self._task, note=self._note())
            if why is not None:
                self._out.say(f"{job.label}: FAILED: {why}")

    def _note(self) -> str:
        done = sum(self._done.values())
        return f"{self._runs}/{len(self._done)} runs, {done}/{self._epochs} epochs, time left:"


@cache
def _weight(config: ModelConfig) -> int:
    return step_multiplications(config)


def _epochs_done(checkpoint: Path) -> int:
    try:
        return read_checkpoint(checkpoint).state.epoch if checkpoint.exists() else 0
    except UserError:
        return 0  # its own process says what is wrong with it, and the others go on


def _train_process(
    job: Job,
    folder: Path,
    core: int,
    started: list[subprocess.Popen[str]],
    on_epoch: Callable[[Job, int, str], None],
) -> str | None:
    """Trains the job in a process of its own on that core; returns the reason if it failed."""
    folder.mkdir(exist_ok=True)
    path = folder / _JOB
    before = Job.read(path)[1] if path.exists() else []
    # Its process loads what is there now, hours after the study has begun.
    commits = list(dict.fromkeys([*before, commit_of()]))
    write_json(path, {"job": dataclasses.asdict(job), "commits": commits})
    process = subprocess.Popen(
        [sys.executable, "-c", _LAUNCH, str(core), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    started.append(process)
    last = "no output"
    with process, (folder / _LOG).open("a", encoding="utf-8") as log:
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            last = line.strip() or last
            if match := _EPOCH.match(line):
                on_epoch(job, int(match[1]), line.strip())
        status = process.wait()
    return None if status == 0 else f"{last.removeprefix('error: ')} (status {status})"


def work(folder: str) -> int:
    """The process of one training: does the job in ``folder``; returns the exit status."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    return exit_status(lambda: _work(Path(folder)))


def _end_with_parent() -> None:
    """Standard input ends when the study does, however it ends."""
    # Not sys.stdin, whose lock a thread would hold while the interpreter ends.
    os.read(0, 1)
    os._exit(1)


def _work(folder: Path) -> int:
    (job, commits), out = Job.read(folder / _JOB), Output(None)
    target = folder / _CHECKPOINT
    before = read_checkpoint(target) if target.exists() else None
    plan = TrainingPlan(
        preset=job.preset,
        config=job.config if before is None else before.config,
        recipe=job.recipe,
        epochs=job.recipe.epochs,
        data=job.data,
        limit=job.sentences,
        target=target,
        resumed=None if before is None else (str(target), before),
    )
    run = Run.of(plan, load_corpus(job.data, notify=out.say))
    for line in run.facts():
        out.say(line)
    result = {**run.train(out), "commits": commits, "cpu": processor()}
    write_json(folder / _RESULT, result)
    return 0
