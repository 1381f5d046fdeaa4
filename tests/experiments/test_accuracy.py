"""The studies of accuracy: their arithmetic on invented results, their files, and what they refuse."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from experiments import ablation, accuracy, runs
from experiments.ablation import VARIANTS, Ablation
from experiments.accuracy import Accuracy
from experiments.files import RowFile, recipe_changes
from experiments.processes import Job
from experiments.runs import RunOptions
from ttjax.costs import model_costs
from ttjax.data import travel_corpus
from ttjax.errors import UserError
from ttjax.output import Output, write_json
from ttjax.recipe import Recipe

CORPUS = travel_corpus()
# By seed: what is added to every score of the invented trainings.
LUCK = {0: 0.0, 1: 0.02, 4: 0.07}


def invented(job: Job) -> dict[str, Any]:
    """A result with dev scores that fall from epoch to epoch, and test scores that are 0.1 lower."""
    base = 0.8 + LUCK[job.recipe.seed] - 0.05 * (job.recipe.exchange == 0) * (1 + job.recipe.seed)

    def scores(epoch: int, lower: float = 0.0) -> dict[str, float]:
        return {"intent_accuracy": base - 0.01 * epoch - lower, "slot_f1": base - 0.02 * epoch - lower}

    epochs = [{"epoch": e, "loss": 1 / e, "dev": scores(e)} for e in range(1, job.recipe.epochs + 1)]
    return {
        "preset": job.preset,
        "format": job.config.format,
        "parameters": model_costs(job.config).parameters,
        "data": {"name": "invented", "digest": job.digest, "train_sentences": job.sentences},
        "seed": job.recipe.seed,
        "recipe": dataclasses.asdict(job.recipe),
        "versions": {"jax": "1"},
        "epochs": epochs,
        "test": scores(job.recipe.epochs, 0.1),
        "best": {"epoch": 1, "dev": scores(1), "test": scores(1, 0.1)},
        "commits": ["abc"] if job.recipe.seed < 4 else ["abc", "def-dirty"],
        "cpu": "slow",
    }


@pytest.fixture
def failing() -> list[str]:
    """Parts of the labels of trainings that are to fail."""
    return []


@pytest.fixture
def trained(failing: list[str], monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """All that is asked to be trained, which is invented instead."""
    seen: list[Job] = []

    def invent(jobs: Sequence[Job], folder: Path, at_once: int, out: Output) -> list[tuple[Job, str]]:
        seen.extend(jobs)
        failed = [job for job in jobs if any(part in job.label for part in failing)]
        for job in jobs:
            if job not in failed:
                (folder / job.name).mkdir()
                write_json(folder / job.name / "result.json", invented(job))
        return [(job, "diverged") for job in failed]

    monkeypatch.setattr(runs, "train_all", invent)
    for module in (accuracy, ablation):
        monkeypatch.setattr(module, "load_corpus", lambda *_, **__: CORPUS)
    return seen


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No plots, which take longer than the rest of a study."""
    monkeypatch.setattr(accuracy, "draw", lambda *_: None)


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_rows_are_means_over_seeds(
    trained: list[Job], options: Callable[..., RunOptions], tmp_path: Path
) -> None:
    study = Accuracy(preset="tiny", ranks=(3, 2), options=options(), out=tmp_path)
    assert study.run() == 0 and len(trained) == 9
    (row,) = read(tmp_path / "accuracy.json")
    assert (row["preset"], row["format"], row["seeds"]) == ("tiny", "tt", [0, 1, 4])
    assert row["commit"] == "abc+def-dirty" and row["machines"] == [{"cpu": "slow", "jax": "1"}]
    assert (row["intent"], row["slot_f1"]) == pytest.approx((71.0, 69.0))
    assert row["intent_range"] == pytest.approx([68.0, 75.0])
    assert row["slot_f1_range"] == pytest.approx([66.0, 73.0])
    assert (row["dev_intent"], row["dev_slot_f1"]) == pytest.approx((81.0, 79.0))
    best = row["best_on_dev"]
    assert best["epochs"] == [1, 1, 1] and (best["intent"], best["dev_intent"]) == pytest.approx((72.0, 82.0))
    assert row["recipe"]["epochs"] == 2 and "seed" not in row["recipe"]

    (curve,) = read(tmp_path / "accuracy_by_epoch.json")
    assert row == {name: value for name, value in curve.items() if name != "by_epoch"}
    assert [point["epoch"] for point in curve["by_epoch"]] == [1, 2]
    assert curve["by_epoch"][0]["dev_slot_f1_range"] == pytest.approx([78.0, 85.0])
    assert curve["by_epoch"][1]["loss"] == 0.5

    by_rank = read(tmp_path / "accuracy_by_rank.json")
    assert [row["rank"] for row in by_rank] == [2, 3]
    assert by_rank[0]["parameters"] < by_rank[1]["parameters"]
    for name in ("accuracy_by_epoch", "accuracy_by_rank"):
        assert (tmp_path / f"{name}.png").stat().st_size > 1000


@pytest.mark.usefixtures("undrawn")
def test_other_models_add_rows_and_train_nothing_twice(
    trained: list[Job], options: Callable[..., RunOptions], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Accuracy(("epoch",), preset="tiny", options=options(), out=tmp_path).run()
    (tensor,) = read(tmp_path / "accuracy.json")
    (shown,) = (line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("tiny tt"))
    # Of test: the means with lowest and highest, and beside them the epoch best on dev.
    assert shown.split()[3:] == ["71.00", "68.0–75.0", "69.00", "66.0–73.0", "72.00", "71.00"]
    trained.clear()
    Accuracy(("epoch",), ("dense",), preset="tiny", options=options(), out=tmp_path).run()
    assert {job.config.format for job in trained} == {"dense"}
    rows = read(tmp_path / "accuracy.json")
    assert [row["format"] for row in rows] == ["dense", "tt"] and rows[1] == tensor
    trained.clear()
    capsys.readouterr()
    Accuracy(("epoch",), ("tt",), preset="tiny", options=options(seeds=(1,)), out=tmp_path).run()
    said = capsys.readouterr().out
    assert "trainings: 1, of which 1 are done by other code than this (abc), in" in said
    # Of fewer seeds: the row of three is kept, with a word.
    assert (
        "kept: tiny tt epochs=2 warm_up=1.0 of seeds 0 1 4, this run has only 1: choose another --out" in said
    )
    assert trained == [] and read(tmp_path / "accuracy.json")[1] == tensor
    Accuracy(("epoch",), ("tt",), preset="tiny", options=options(seeds=(1, 0, 4)), out=tmp_path).run()
    assert read(tmp_path / "accuracy.json")[1]["seeds"] == [1, 0, 4]


@pytest.mark.usefixtures("trained", "undrawn")
def test_rows_of_two_recipes_stand_side_by_side(
    options: Callable[..., RunOptions], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also beside a row from before sentences were recombined, which is one of no recombined ones."""
    study = Accuracy(preset="tiny", ranks=(2,), options=options(seeds=(0,)), out=tmp_path)
    without = dataclasses.replace(study, options=options(seeds=(0,), recipe=("epochs=2", "recombine=0")))
    for one in (study, without):
        one.run()
    names = [f"accuracy{of}.json" for of in ("", "_by_epoch", "_by_rank")]
    for rows in (read(tmp_path / name) for name in names):
        assert [row["recipe"]["recombine"] for row in rows] == [0.25, 0.0]
        assert [recipe_changes(row) for row in rows] == [
            "epochs=2 warm_up=1.0",
            "epochs=2 warm_up=1.0 recombine=0.0",
        ]
    assert "\n   recombine=0.0 " in capsys.readouterr().out
    for name in names:
        first, second = read(tmp_path / name)
        del second["recipe"]["recombine"]
        write_json(tmp_path / name, [first, second])
    without.run()
    assert [len(read(tmp_path / name)) for name in names] == [2, 2, 2]


def test_two_studies_at_once_keep_each_others_rows(tmp_path: Path) -> None:
    data = {"digest": CORPUS.digest, "train_sentences": len(CORPUS.train)}
    both = [RowFile(tmp_path / "rows.json", ("preset",), CORPUS, None) for _ in range(2)]
    for name, file in zip(("enc4", "enc2"), both, strict=True):
        recipe = dataclasses.asdict(Recipe())
        file.add([{"preset": name, "format": "tt", "data": data, "recipe": recipe}], Output(None))
    assert [row["preset"] for row in read(tmp_path / "rows.json")] == ["enc2", "enc4"]


def test_a_formats_own_peak_is_no_change_of_the_recipe() -> None:
    for form in ("tt", "dense"):
        (job,) = RunOptions(seeds=(0,)).jobs_for("tiny", CORPUS, {"format": form})
        assert recipe_changes(runs.describe([invented(job)])) == ""


@pytest.mark.usefixtures("trained", "undrawn")
def test_the_other_models_are_written_when_one_training_fails(
    failing: list[str], options: Callable[..., RunOptions], tmp_path: Path
) -> None:
    failing.append("rank 3 seed 1")
    study = Accuracy(preset="tiny", ranks=(2, 3), options=options(), out=tmp_path)
    with pytest.raises(UserError, match=r"1 of 9 trainings failed.*: tiny tt rank 3 seed 1 \(.*: diverged"):
        study.run()
    assert [row["rank"] for row in read(tmp_path / "accuracy_by_rank.json")] == [2]
    assert len(read(tmp_path / "accuracy.json")) == len(read(tmp_path / "accuracy_by_epoch.json")) == 1
    failing[:] = ["seed 1"]
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="3 of 9 trainings failed"):
        dataclasses.replace(study, out=tmp_path / "none", options=options(runs=tmp_path / "again")).run()
    assert list((tmp_path / "none").iterdir()) == []


@pytest.mark.usefixtures("trained")
def test_an_ablation_is_written_when_a_variant_fails(
    failing: list[str],
    options: Callable[..., RunOptions],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ablation, "draw", lambda *_: None)
    names = ("no exchanged values", "no word dropout")
    study = Ablation("tiny", variants=names, options=options(), out=tmp_path)
    failing.append("full recipe, seed 1")
    with pytest.raises(UserError, match="1 of 9 trainings failed"):
        study.run()
    assert not (tmp_path / "ablation.json").exists()
    failing[:] = ["no exchanged values, seed 1"]
    with pytest.raises(UserError, match="1 of 9 trainings failed"):
        dataclasses.replace(study, options=options(runs=tmp_path / "again")).run()
    found = [row["variant"] for row in read(tmp_path / "ablation.json")["rows"]]
    assert found == ["full recipe", "no word dropout"]


@pytest.mark.usefixtures("undrawn")
def test_the_presets_own_rank_is_trained_once(
    trained: list[Job], options: Callable[..., RunOptions], tmp_path: Path
) -> None:
    study = Accuracy(blocks=(2,), ranks=(12,), options=options(seeds=(0,)), out=tmp_path)
    study.run()
    assert [job.label for job in trained] == ["enc2 tt rank 12 seed 0"]
    trained.clear()
    # The first of the blocks is that of all ranks, in whichever order they are asked for.
    dataclasses.replace(study, studies=("rank",), blocks=(2, 4), ranks=(12, 4)).run()
    assert [job.label for job in trained] == ["enc2 tt rank 4 seed 0"]


@pytest.mark.parametrize("text", ["{}", "[1]", '[{"data": 1}]', "["])
def test_a_file_that_is_no_studys_stays(
    text: str, trained: list[Job], options: Callable[..., RunOptions], tmp_path: Path
) -> None:
    file = tmp_path / "accuracy_by_epoch.json"
    file.write_text(text)
    with pytest.raises(UserError, match="expected rows of a study"):
        Accuracy(preset="tiny", options=options(), out=tmp_path).run()
    assert trained == [] and file.read_text() == text


@pytest.mark.usefixtures("undrawn")
def test_rows_of_other_data_are_not_mixed(
    trained: list[Job], options: Callable[..., RunOptions], tmp_path: Path
) -> None:
    Accuracy(("epoch",), preset="tiny", options=options(limit=None), out=tmp_path).run()
    before, _ = (tmp_path / "accuracy.json").read_text(), trained.clear()
    with pytest.raises(UserError, match="found rows of other data: choose another --out"):
        Accuracy(("epoch",), preset="tiny", options=options(), out=tmp_path).run()
    assert trained == [] and (tmp_path / "accuracy.json").read_text() == before


def test_an_ablation_compares_seed_by_seed(
    trained: list[Job], options: Callable[..., RunOptions], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = Ablation("tiny", variants=("no exchanged values", "no word dropout"), options=options())
    dataclasses.replace(study, out=tmp_path).run()
    full, without, same = read(tmp_path / "ablation.json")["rows"]
    assert [full["variant"], without["variant"]] == ["full recipe", "no exchanged values"]
    assert full["intent_difference"] == same["intent_difference"] == 0
    # 5, 10 and 25 points less for the seeds 0, 1 and 4.
    assert without["slot_f1_difference"] == pytest.approx(-40 / 3, abs=1e-3)
    assert without["slot_f1_difference_range"] == pytest.approx([-25, -5])
    assert without["dev_slot_f1"] == pytest.approx(79.0 - 40 / 3, abs=1e-3)
    assert without["changes"] == {"exchange": 0.0} and "slot_f1" not in full
    assert (tmp_path / "ablation.png").stat().st_size > 1000
    so_already = options(recipe=("epochs=2", "word_dropout=0"), seeds=(0,))
    (tmp_path / "so_already").mkdir()
    dataclasses.replace(study, out=tmp_path / "so_already", options=so_already).run()
    assert "since the recipe is so already: no word dropout" in capsys.readouterr().out
    assert len(read(tmp_path / "so_already" / "ablation.json")["rows"]) == 2


def test_each_variant_changes_the_recipe_as_it_is() -> None:
    full = RunOptions(seeds=(0,)).jobs_for("enc2", CORPUS)
    for name, changes in VARIANTS.items():
        assert RunOptions(seeds=(0,)).jobs_for("enc2", CORPUS, changes) != full, name


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"seeds": ()}, "--seeds: expected one or more different numbers"),
        ({"seeds": (1, 1)}, "--seeds: expected one or more different numbers"),
        ({"limit": 0}, "--limit: expected a whole number from 1 up, found 0"),
        ({"jobs": 0}, "--jobs: expected 1 to "),
        ({"jobs": 10_000}, "--jobs: expected 1 to "),
        ({"recipe": ("epochs",)}, "--recipe: expected FIELD=VALUE"),
        ({"recipe": ("epochs=1.5",)}, "--recipe: expected FIELD=VALUE with a int"),
        ({"recipe": ("epoch=1",)}, "recipe: expected one of optimizer, .*, found 'epoch'"),
        ({"recipe": ("seed=1",)}, "and --seeds for seeds"),
        ({"recipe": ("epochs=0",)}, "epochs: expected a whole number from 1 up"),
        ({"runs": Path("/dev/null/runs")}, "--runs: can't make the folder"),
    ],
)
def test_options_of_trainings_that_are_refused(
    wrong: dict[str, Any],
    message: str,
    trained: list[Job],
    options: Callable[..., RunOptions],
    tmp_path: Path,
) -> None:
    with pytest.raises(UserError, match=message):
        Accuracy(preset="tiny", options=options(**wrong), out=tmp_path).run()
    assert trained == [] and not (tmp_path / "accuracy.json").exists()


def test_options_of_studies_that_are_refused(
    trained: list[Job], options: Callable[..., RunOptions], tmp_path: Path
) -> None:
    for study, message in [
        (Accuracy(blocks=(3,), options=options(), out=tmp_path), "unknown preset 'enc3'"),
        (Accuracy(formats=(), options=options(), out=tmp_path), "--formats: expected one or more"),
        (Accuracy(out=tmp_path / "none"), "--out: expected an existing folder"),
        (Ablation(variants=("x",), options=options(), out=tmp_path), "--variants: expected some of no ex"),
    ]:
        with pytest.raises(UserError, match=message):
            study.run()
    assert trained == []
