"""Trainings of a study in processes of their own: broken off, failed, at once, and one without its study."""

from __future__ import annotations

import dataclasses
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from experiments import processes, runs
from experiments.processes import Job, train_all
from experiments.runs import RunOptions
from ttjax.data import travel_corpus
from ttjax.errors import UserError
from ttjax.output import Output, write_json

CORPUS = travel_corpus()


def test_a_job_keeps_its_folder_wherever_the_corpus_is(options: Callable[..., RunOptions]) -> None:
    (job,) = options(seeds=(0,)).jobs_for("tiny", CORPUS)
    assert dataclasses.replace(job, data="/elsewhere", note="for people").name == job.name
    recipe = dataclasses.replace(job.recipe, word_dropout=0.5)
    for other in (
        dataclasses.replace(job, recipe=recipe),
        dataclasses.replace(job, config=job.config.with_rank(2)),
        dataclasses.replace(job, sentences=61),
        dataclasses.replace(job, digest="0"),
    ):
        assert other.name != job.name


def test_a_broken_training_goes_on_where_it_was(
    options: Callable[..., RunOptions], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = options(seeds=(3,), recipe=("epochs=8", "average=0"))
    (job,) = one.jobs_for("tiny", CORPUS, {"format": "dense", "n_blocks": 1})
    folder = tmp_path / "runs" / job.name

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    # So that the second training need not compile all of what the first has compiled.
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "compiled"))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    monkeypatch.setattr(processes, "commit_of", lambda: "before")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(processes._Board, "epoch", interrupt)
        one.train([job], Output(None))
    assert (folder / "checkpoint.safetensors").exists() and not (folder / "result.json").exists()

    monkeypatch.setattr(processes, "commit_of", lambda: "after")
    out = Output(None)
    out.console = Console(file=io.StringIO(), force_terminal=True, width=120)
    result = one.train([job, job], out).results[job]
    assert [row["epoch"] for row in result["epochs"]] == list(range(1, 9))
    assert result["seed"] == 3 and result["commits"] == ["before", "after"]
    assert result["data"]["train_sentences"] == job.sentences == 60 < len(CORPUS.train)
    log = (folder / "log.txt").read_text()
    assert log.count("resume: ") == 1 and log.count("epoch 1: ") == 1
    shown = out.console.file.getvalue()  # type: ignore[attr-defined]
    assert "0/1 runs" in shown and "1/1 runs, 8/8 epochs" in shown and "tiny dense seed 3: epoch 8: " in shown
    monkeypatch.setattr(runs, "train_all", lambda jobs, *_: [(job, "trained again") for job in jobs])
    assert one.train([job], Output(None)) == ({job: result}, [])


def test_a_failed_training_stops_no_other(options: Callable[..., RunOptions], tmp_path: Path) -> None:
    nowhere = options(seeds=(0, 1), data=str(tmp_path / "nowhere"))
    jobs = nowhere.jobs_for("tiny", CORPUS)
    with pytest.raises(UserError, match="2 of 2 trainings failed") as caught:
        nowhere.train(jobs, Output(None)).check()
    for job in jobs:
        assert f"{job.label} ({tmp_path / 'runs' / job.name / 'log.txt'}): {tmp_path}" in str(caught.value)
    assert "Traceback" not in str(caught.value) and "status 2" in str(caught.value)


def test_a_damaged_checkpoint_stops_its_own_training_alone(
    options: Callable[..., RunOptions], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged, good = jobs = options(seeds=(0, 1)).jobs_for("tiny", CORPUS)
    (tmp_path / damaged.name).mkdir()
    (tmp_path / damaged.name / "checkpoint.safetensors").write_bytes(b"junk")
    # Stands for a training that finds the checkpoint damaged.
    found = "sys.exit(3 if pathlib.Path(sys.argv[2], 'checkpoint.safetensors').exists() else print(1))"
    monkeypatch.setattr(processes, "_LAUNCH", f"import pathlib, sys; {found}")
    assert [job for job, _ in train_all(jobs, tmp_path, 1, Output(None))] == [damaged]
    assert (tmp_path / good.name / "log.txt").read_text() == "1\n"


def test_a_training_is_of_the_commit_at_its_own_beginning(
    options: Callable[..., RunOptions], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process loads what is there then: a study of hours outlives commits."""
    found = iter(("first", "second"))
    monkeypatch.setattr(processes, "commit_of", lambda: next(found))
    monkeypatch.setattr(processes, "_LAUNCH", "")
    jobs = options(seeds=(0, 1)).jobs_for("tiny", CORPUS)
    assert train_all(jobs, tmp_path, 1, Output(None)) == []
    read = [Job.read(tmp_path / job.name / "job.json") for job in jobs]
    assert read == [(jobs[0], ["first"]), (jobs[1], ["second"])]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core")
def test_trainings_at_once_have_a_core_each(
    options: Callable[..., RunOptions], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned = processes._LAUNCH.partition("from experiments")[0]
    told = f"{pinned} import time; time.sleep(1); print(os.sched_getaffinity(0)); sys.exit(3)"
    monkeypatch.setattr(processes, "_LAUNCH", told)
    jobs = options(seeds=(0, 1)).jobs_for("tiny", CORPUS)
    failed = train_all(jobs, tmp_path, 2, Output(None))
    cores = sorted(os.sched_getaffinity(0))[:2]
    assert sorted(why for _, why in failed) == [f"{{{core}}} (status 3)" for core in cores]


def test_a_training_ends_when_its_study_is_killed(options: Callable[..., RunOptions], tmp_path: Path) -> None:
    """Its standard input, which the study holds open, ends with the study."""
    (job,) = options(seeds=(0,)).jobs_for("tiny", CORPUS)
    write_json(tmp_path / "job.json", {"job": dataclasses.asdict(job), "commits": []})
    core = min(os.sched_getaffinity(0))
    command = [sys.executable, "-c", processes._LAUNCH, str(core), str(tmp_path)]
    assert subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True).returncode == 1
    assert [path.name for path in tmp_path.iterdir()] == ["job.json"]
