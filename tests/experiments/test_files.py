"""The files of studies: no result is replaced by one of other options, and rows keep what they have."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments import compress_mlp, memory_ratios
from experiments.ablation import Ablation
from experiments.compress_mlp import CompressMlp
from experiments.cycle_sweep import CycleSweep
from experiments.files import RowFile, check_replaceable, options_of
from experiments.gpu_baseline import GpuBaseline
from experiments.runs import RunOptions
from experiments.train_on_kernel import TrainOnKernel
from ttjax.data import travel_corpus
from ttjax.errors import UserError
from ttjax.output import write_json
from ttjax.recipe import Recipe

CORPUS = travel_corpus()


def at(out: Path, name: str, options: Callable[..., RunOptions]) -> Any:
    """A study of that name, as short as they get."""
    variants = ("no warm-up",)
    return {
        "ablation": lambda: Ablation("tiny", variants=variants, options=options(seeds=(0,)), out=out),
        "compress_mlp": lambda: CompressMlp(out, ranks=(4,), epochs=1),
        "cycle_sweep": lambda: CycleSweep(out, quick=True),
        "gpu_baseline": lambda: GpuBaseline("tiny", ("dense",), steps=2, rounds=1, data="travel", out=out),
        "train_on_kernel": lambda: TrainOnKernel((0,), "tiny", 1, "travel", 10, out, out / "runs"),
    }[name]()


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("ablation", {"seeds": [0, 1]}, "--seeds 0; found one of --seeds 0 1: choose another --out"),
        ("ablation", {"variants": ["a b", "c"]}, "--variants 'no warm-up'; found one of --variants 'a b' c:"),
        ("ablation", {"data": "atis 1"}, "--data 'travel .synthetic.* .*'; found one of --data 'atis 1'"),
        (
            "compress_mlp",
            {"epochs": 12, "ranks": [4, 8]},
            "--ranks 4, --epochs 1; found one of --ranks 4 8, --e",
        ),
        ("cycle_sweep", {"quick": False}, "--quick True; found one of --quick False: choose another --out"),
        (
            "gpu_baseline",
            {"preset": "enc2"},
            "--preset tiny; found one of --preset enc2: choose",
        ),
        ("train_on_kernel", {"limit": None}, "--limit 10; found one of --limit None: choose another --out"),
    ],
)
def test_a_result_of_other_options_stays(
    name: str, changes: dict[str, Any], message: str, options: Callable[..., RunOptions], tmp_path: Path
) -> None:
    """As the command refuses before any work: nothing else is there after it."""
    study, file = at(tmp_path, name, options), tmp_path / f"{name}.json"
    corpus = None if name in ("compress_mlp", "cycle_sweep") else CORPUS
    text = json.dumps({"options": options_of(study, corpus) | changes})
    file.write_text(text)
    with pytest.raises(UserError, match=message):
        study.run()
    assert list(tmp_path.iterdir()) == [file] and file.read_text() == text


@pytest.mark.parametrize("text", ["{}", "[]", "[1]", '{"options": 1}', '{"options": []}', "["])
def test_a_file_that_tells_no_options_stays(text: str, tmp_path: Path) -> None:
    file = tmp_path / "cycle_sweep.json"
    file.write_text(text)
    with pytest.raises(
        UserError, match=r"expected a result that tells its options, .*: choose another --out"
    ):
        CycleSweep(tmp_path).run()
    assert file.read_text() == text


def test_a_result_of_the_same_options_is_replaced(options: Callable[..., RunOptions], tmp_path: Path) -> None:
    """Wherever its trainings are, and however many of them go at once."""
    study, file = at(tmp_path, "ablation", options), tmp_path / "ablation.json"
    check_replaceable(file, {})
    file.write_text(json.dumps({"options": options_of(study, CORPUS), "rows": []}))
    elsewhere = dataclasses.replace(study.options, runs=tmp_path / "others", data=None)
    again = dataclasses.replace(study, options=elsewhere, out=tmp_path / "others")
    check_replaceable(file, options_of(again, CORPUS))


@pytest.mark.parametrize("study", [CompressMlp, memory_ratios.MemoryRatios])
def test_a_result_names_the_commit_from_before_its_work(
    study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is committed meanwhile is not what was run."""
    commits = ["before"]

    def work(*_: Any) -> dict[str, Any]:
        commits[:] = ["after"]
        return {}

    monkeypatch.setattr(CompressMlp, "_measure", work)
    monkeypatch.setattr(memory_ratios, "_rows", work)
    for module in (compress_mlp, memory_ratios):
        monkeypatch.setattr(module, "code_version", lambda: commits[0])
        for shown in ("_table", "_draw"):
            monkeypatch.setattr(module, shown, lambda *_: "")
    assert study(tmp_path).run() == 0 and commits == ["after"]
    (file,) = tmp_path.iterdir()
    assert json.loads(file.read_text())["commit"] == "before"


def test_one_row_of_other_data_is_enough_to_refuse_the_file(tmp_path: Path) -> None:
    file, recipe = tmp_path / "rows.json", dataclasses.asdict(Recipe())
    for digest, sentences in ((CORPUS.digest, 3), ("0f", len(CORPUS.train))):
        data = [{"digest": CORPUS.digest, "train_sentences": len(CORPUS.train)}]
        data.append({"digest": digest, "train_sentences": sentences})
        write_json(
            file,
            [{"preset": str(n), "format": "tt", "data": d, "recipe": recipe} for n, d in enumerate(data)],
        )
        with pytest.raises(UserError, match="found rows of other data: choose another --out"):
            RowFile(file, ("preset",), CORPUS, None)
