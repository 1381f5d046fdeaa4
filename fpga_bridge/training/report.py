"""What `fpga-bridge train` shows and writes: the device's scores, JAX's, and the drift between the two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from ttjax.cli_progress import epoch_line
from ttjax.data.corpus import title_of
from ttjax.output import write_json
from ttjax.picture import save, subplots

# Not the name of the study over seeds, whose results a single training must not replace.
NAME = "kernel_training"
# Percentage points that a score of the device may be from JAX's, to pass.
POINTS = 0.3
SCORES = {"intent_accuracy": "intent", "slot_f1": "slot F1"}

Row = dict[str, Any]


def line(row: Row) -> str:
    """An epoch's results in one line, JAX's too where it went beside."""
    text = epoch_line(row)
    if "jax" not in row:
        return text
    theirs = row["jax"]
    scores = ", ".join(f"{title} {100 * theirs['dev'][name]:.2f}" for name, title in SCORES.items())
    return f"{text}; JAX: loss {theirs['loss']:.4f}, {scores}; drift {row['drift'][-1][1]:.1e}"


def comparison(kernel: Row, jax: Row) -> Row:
    """Of the same scores of both: the device's minus JAX's in percentage points, and whether they pass."""
    points = {name: round(100 * (kernel[name] - jax[name]), 4) for name in SCORES}
    return {**points, "passed": passes(points)}


def passes(points: Row) -> bool:
    """Whether all of these differences are within POINTS."""
    return all(abs(found) <= POINTS for found in points.values())


def compared(results: Row) -> dict[str, Row]:
    """``comparison`` of dev and test after the last epoch, as far as JAX has gone beside."""
    last = results["epochs"][-1]
    found = {}
    if "jax" in last:
        found["dev"] = comparison(last["dev"], last["jax"]["dev"])
    if "jax" in results:
        found["test"] = comparison(results["test"], results["jax"]["test"])
    return found


def table(results: Row) -> Table:
    """Scores of the device and of JAX after each epoch, the drift, and whether the last scores pass."""
    shown = Table("epoch", title=f"{_title(results)}, in %", title_style="", box=box.SIMPLE_HEAD)
    shown.caption = f"passed: both scores are within {POINTS:g} points of JAX's"
    shown.caption_style = ""
    for title in SCORES.values():
        shown.add_column(title, justify="right")
        shown.add_column("JAX", justify="right")
    shown.add_column("drift", justify="right")
    for row in results["epochs"]:
        jax = row.get("jax", {}).get("dev")
        drift = f"{row['drift'][-1][1]:.1e}" if "drift" in row else "–"
        shown.add_row(f"{row['epoch']} dev", *_cells(row["dev"], jax), drift)
    last = results["epochs"][-1]["epoch"]
    shown.add_row(f"{last} test", *_cells(results["test"], results.get("jax", {}).get("test")), "")
    shown.add_section()
    for split, found in results["compared"].items():
        cells = [cell for name in SCORES for cell in (f"{found[name]:+.2f}", "")]
        shown.add_row(f"{split}: device − JAX", *cells, "passed" if found["passed"] else "not passed")
    return shown


def write(results: Row, folder: Path) -> list[Path]:
    """The results as JSON and as a plot; returns the files.

    Raises:
        UserError: a file can't be written.
    """
    data, picture = folder / f"{NAME}.json", folder / f"{NAME}.png"
    write_json(data, results)
    _draw(results, picture)
    return [data, picture]


def _draw(results: Row, path: Path) -> None:
    """Drift by step, where JAX went beside, and scores on dev by epoch."""
    rows = results["epochs"]
    beside = [row for row in rows if "jax" in row]
    figure, axes = subplots(1, 2, figsize=(10, 4.5))
    drift = [point for row in beside for point in row["drift"]]
    axes[0].plot([step for step, _ in drift], [distance for _, distance in drift])
    axes[0].set(xlabel="SGD step", ylabel="‖device − JAX‖ / ‖JAX‖, all parameters")
    if drift:
        axes[0].set_yscale("log")
    else:
        axes[0].text(0.5, 0.5, "JAX did not go beside", ha="center", transform=axes[0].transAxes)
    for number, (name, title) in enumerate(SCORES.items()):
        # The two can lie on each other: JAX's line is wide and pale, the device's narrow upon it.
        for label, scored, style in (
            ("JAX", [(row["epoch"], row["jax"]["dev"]) for row in beside], {"linewidth": 6, "alpha": 0.3}),
            (results["device"], [(row["epoch"], row["dev"]) for row in rows], {"marker": "."}),
        ):
            points = [100 * scores[name] for _, scores in scored]
            epochs = [epoch for epoch, _ in scored]
            axes[1].plot(epochs, points, color=f"C{number}", label=f"{title}, {label}", **style)
    axes[1].xaxis.get_major_locator().set_params(integer=True)
    axes[1].set(xlabel="epoch", ylabel="score on dev in %")
    axes[1].legend(fontsize=8)
    figure.suptitle(f"{_title(results)}, seed {results['seed']}")
    save(figure, path)


def _title(results: Row) -> str:
    data = results["data"]
    limited = f", {data['train_sentences']} sentences" if data["limited"] else ""
    return f"{results['preset']} on {title_of(data)}{limited}, trained on {results['device']}"


def _cells(kernel: Row, jax: Row | None) -> list[str]:
    """Each score of the device, and after it JAX's."""
    pairs = ((kernel[name], None if jax is None else jax[name]) for name in SCORES)
    return [cell for a, b in pairs for cell in (f"{100 * a:.2f}", "–" if b is None else f"{100 * b:.2f}")]
