"""The picture of one training: loss and scores on dev by epoch, and what test came to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ttjax.picture import save, subplots

# Scores that are drawn, and what they are called.
SCORES = {"intent_accuracy": "intent accuracy", "slot_f1": "slot F1"}


def draw_training(results: dict[str, Any], path: Path) -> None:
    """``results``: as the run's JSON has them.

    Raises:
        UserError: matplotlib is missing, or the file can't be written.
    """
    figure, (of_loss, of_scores) = subplots(1, 2, figsize=(11, 4.5))
    rows, best = results["epochs"], results["best"]
    epochs = [row["epoch"] for row in rows]
    marker = "o" if len(epochs) == 1 else None
    of_loss.plot(epochs, [row["loss"] for row in rows], marker=marker)
    of_loss.set(xlabel="epoch", ylabel="loss on the training sentences, mean of the epoch")
    for color, (key, name) in enumerate(SCORES.items()):
        found = [100 * row["dev"][key] for row in rows]
        label = f"{name} (test: {100 * results['test'][key]:.2f})"
        of_scores.plot(epochs, found, color=f"C{color}", marker=marker, label=label)
    of_scores.axvline(best["epoch"], color="grey", linestyle=":", label=f"best on dev: epoch {best['epoch']}")
    of_scores.set(xlabel="epoch", ylabel="score on dev in %")
    of_scores.legend()
    for axes in (of_loss, of_scores):
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.25)
    figure.suptitle(f"{results['preset']}, {results['format']}, on {results['data']['name']}")
    save(figure, path, "--picture")
