"""Somebody else's MLP, compressed two ways: TTDense trained from scratch, and its trained weights converted.

python -m experiments.compress_mlp --out experiments/results
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from flax import linen as nn
from rich import box
from rich.progress import Progress
from rich.table import Table

from experiments.files import check_replaceable, options_of
from ttjax.cli import exit_status
from ttjax.data import Corpus, Split, Vocabulary, build_vocabulary, encode, travel_corpus
from ttjax.data.vocabulary import SPECIAL_WORDS
from ttjax.errors import UserError, check_count
from ttjax.modules import TTDense
from ttjax.output import Output, write_json
from ttjax.picture import check_results_folder, save, subplots
from ttjax.provenance import PACKAGES, code_version, processor, versions
from ttjax.train import seed_keys

MINUTES = 1.0

WORDS = 512  # inputs: the special words, which are never set, and the most frequent others
WIDTHS = (512, 512, 512)
# Of a hidden layer's kernel; a train cut to a higher rank has this one.
LARGEST_RANK = max(min(layer) for layer in pairwise((WORDS, *WIDTHS)))
BATCH = 50
LEARNING_RATE = 3e-3  # Adam's; falls to 0 along a cosine
# Of the epochs, after conversion.
FINE_TUNING = 0.25

Examples = tuple[jax.Array, jax.Array]  # bags of words (n, WORDS) float32, intents (n,) int32


class Mlp(nn.Module):
    """The design to be compressed: a classifier of plain layers. All it offers is which class they are."""

    classes: int
    hidden: Callable[..., nn.Module] = nn.Dense

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for i, width in enumerate(WIDTHS):
            x = nn.relu(self.hidden(width, name=f"hidden{i}")(x))
        return nn.Dense(self.classes, name="out")(x)


@dataclass(frozen=True)
class CompressMlp:
    """Compress a classifier of intents from bags of words; the corpus is synthetic, its scores mean little.

    At each rank: TTDense in the place of Dense, trained from scratch; and the trained dense weights
    converted by TT-SVD, before and after fine-tuning.

    Examples: python -m experiments.compress_mlp
              python -m experiments.compress_mlp --ranks 8 32 --epochs 6 --out .
    """

    out: Path = Path("experiments/results")
    """Existing folder for compress_mlp.json and compress_mlp.png."""
    ranks: tuple[int, ...] = (4, 8, 16, 32, 64)
    """TT ranks of the hidden layers."""
    epochs: int = 12
    """Of each training from scratch; a quarter of them after conversion."""
    seed: int = 0
    """Of the parameters' start and the order of the examples."""

    def run(self) -> int:
        """Train, convert, print, draw, write; returns exit status 0."""
        out = Output(None)
        check_count("--epochs", self.epochs)
        if not self.ranks or min(self.ranks) < 1 or max(self.ranks) > LARGEST_RANK:
            raise UserError(
                f"--ranks: expected whole numbers from 1 to {LARGEST_RANK}, which is full rank, found"
                f" {self.ranks}"
            )
        check_results_folder(self.out)
        options = options_of(self)
        check_replaceable(self.out / "compress_mlp.json", options)
        origin = {"commit": code_version(), "cpu": processor(), "versions": versions((*PACKAGES, "flax"))}
        corpus = travel_corpus()
        with out.progress() as progress:
            result = self._measure(corpus, progress)
        out.console.print(_table(result))
        write_json(self.out / "compress_mlp.json", {**origin, "options": options, **result})
        _draw(result, self.out / "compress_mlp.png")
        out.say(f"written: {self.out / 'compress_mlp.json'}, {self.out / 'compress_mlp.png'}")
        return 0

    def _measure(self, corpus: Corpus, progress: Progress) -> dict[str, Any]:
        of_params, of_order = seed_keys(self.seed)
        vocabulary = build_vocabulary(corpus, WORDS)
        train, test = (bags(split, vocabulary) for split in (corpus.train, corpus.test))
        fine_tuning = max(1, round(FINE_TUNING * self.epochs))
        total = self.epochs + len(self.ranks) * (self.epochs + fine_tuning)
        task = progress.add_task("training", total=total)

        def trained(model: Mlp, params: Any, epochs: int) -> Any:
            return fit(model, params, train, epochs, of_order, lambda: progress.advance(task))

        dense = Mlp(len(vocabulary.intent_names))
        dense_params = trained(dense, fresh(dense, of_params), self.epochs)
        rows = []
        for rank in self.ranks:
            progress.update(task, description=f"rank {rank}")
            model = dense.copy(hidden=partial(TTDense, rank=rank))
            scratch = trained(model, fresh(model, of_params), self.epochs)
            converted, error = convert(dense_params, rank)
            tuned = trained(model, converted, fine_tuning)
            rows.append(
                {
                    "rank": rank,
                    "parameters": count(converted),
                    "hidden_parameters": count(hidden_of(converted)),
                    "relative_error": error,
                    "scratch_accuracy": accuracy(model, scratch, test),
                    "converted_accuracy": accuracy(model, converted, test),
                    "fine_tuned_accuracy": accuracy(model, tuned, test),
                }
            )
        return {
            "data": corpus.identity,
            "test_sentences": len(corpus.test),
            "epochs": self.epochs,
            "fine_tuning_epochs": fine_tuning,
            "seed": self.seed,
            "dense": {
                "parameters": count(dense_params),
                "hidden_parameters": count(hidden_of(dense_params)),
                "accuracy": accuracy(dense, dense_params, test),
            },
            "tensor": rows,
        }


def bags(split: Split, vocabulary: Vocabulary) -> Examples:
    """Which words a sentence has, as zeros and ones, and its intent."""
    batch = encode(split, vocabulary, seq_len=64).batch
    present = np.zeros((len(split), WORDS), np.float32)
    np.put_along_axis(present, np.asarray(batch.tokens), 1.0, axis=1)
    present[:, : len(SPECIAL_WORDS)] = 0.0
    return jnp.asarray(present), jnp.asarray(batch.intent)


def fresh(model: Mlp, key: jax.Array) -> Any:
    return model.init(key, jnp.zeros((1, WORDS), jnp.float32))["params"]


def convert(params: Any, rank: int) -> tuple[Any, float]:
    """The dense MLP's parameters with TT kernels, and the relative error of all these kernels together."""
    converted, lost, whole = dict(params), 0.0, 0.0
    for name, layer in hidden_of(params).items():
        module, converted[name] = TTDense.from_dense(layer, rank=rank)
        again = module.to_dense(converted[name])["kernel"]
        lost += float(jnp.sum((again - layer["kernel"]) ** 2))
        whole += float(jnp.sum(layer["kernel"] ** 2))
    return converted, (lost / whole) ** 0.5


def hidden_of(params: Any) -> Any:
    return {name: layer for name, layer in params.items() if name.startswith("hidden")}


def count(params: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def accuracy(model: Mlp, params: Any, examples: Examples) -> float:
    inputs, labels = examples
    logits = jnp.asarray(model.apply({"params": params}, inputs))
    right = jnp.argmax(logits, axis=-1) == labels
    return float(jnp.mean(right.astype(jnp.float32)))


def fit(
    model: Mlp, params: Any, examples: Examples, epochs: int, key: jax.Array, on_epoch: Callable[[], None]
) -> Any:
    """Adam on shuffled minibatches; what an epoch's end leaves over of a minibatch is left out."""
    steps = max(1, len(examples[1]) // BATCH)
    optimizer = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, epochs * steps))

    def loss(params: Any, batch: Examples) -> jax.Array:
        logits = jnp.asarray(model.apply({"params": params}, batch[0]))
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]))

    def step(state: Any, batch: Examples) -> tuple[Any, None]:
        params, moments = state
        updates, moments = optimizer.update(jax.grad(loss)(params, batch), moments, params)
        return (optax.apply_updates(params, updates), moments), None

    @jax.jit
    def epoch(state: Any, key: jax.Array) -> Any:
        order = jax.random.permutation(key, len(examples[1]))[: steps * BATCH]
        batches = jax.tree.map(lambda a: a[order].reshape(steps, -1, *a.shape[1:]), examples)
        return jax.lax.scan(step, state, batches)[0]

    state = params, optimizer.init(params)
    for n in range(epochs):
        state = jax.block_until_ready(epoch(state, jax.random.fold_in(key, n)))
        on_epoch()
    return state[0]


def _table(result: dict[str, Any]) -> Table:
    dense = result["dense"]
    table = Table("hidden layers", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("parameters", "fewer", "error", "scratch", "converted", "fine-tuned"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_row("dense", f"{dense['parameters']:,}", "1.0×", "", f"{100 * dense['accuracy']:.1f}", "", "")
    table.add_section()
    for row in result["tensor"]:
        table.add_row(
            f"rank {row['rank']}",
            f"{row['parameters']:,}",
            f"{dense['parameters'] / row['parameters']:.1f}×",
            f"{100 * row['relative_error']:.0f} %",
            *(f"{100 * row[f'{way}_accuracy']:.1f}" for way in ("scratch", "converted", "fine_tuned")),
        )
    table.title = (
        f"accuracy in %, intents of {result['test_sentences']} sentences of {result['data']['name']}:\n"
        "trained from scratch, or the dense weights converted by\n"
        "TT-SVD (their relative error), and then fine-tuned"
    )
    table.title_style = ""
    return table


def _draw(result: dict[str, Any], path: Path) -> None:
    figure, axes = subplots(figsize=(8, 4.5))
    dense, rows = result["dense"], result["tensor"]
    fewer = [dense["parameters"] / row["parameters"] for row in rows]
    for way, marker in (("scratch", "o"), ("converted", "s"), ("fine_tuned", "^")):
        accuracies = [100 * row[f"{way}_accuracy"] for row in rows]
        axes.plot(fewer, accuracies, marker=marker, label=way.replace("_", "-"))
    axes.axhline(100 * dense["accuracy"], color="gray", linestyle="--", label="dense")
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    ticks = [n * 10**power for power in range(4) for n in (1, 2, 5) if low <= n * 10**power <= high]
    axes.set_xticks(ticks, map(str, ticks))
    axes.minorticks_off()
    ranks = axes.secondary_xaxis("top")
    ranks.set_xticks(fewer, [str(row["rank"]) for row in rows])
    ranks.minorticks_off()
    ranks.set_xlabel("TT rank")
    axes.set_xlabel(f"times fewer parameters than dense ({dense['parameters']:,})")
    axes.set_ylabel(f"accuracy in %, {result['data']['name']}")
    axes.legend(fontsize=8)
    save(figure, path)


def main() -> int:
    """Run the study; returns the exit status."""
    return exit_status(lambda: tyro.cli(CompressMlp, prog="python -m experiments.compress_mlp").run())


if __name__ == "__main__":
    sys.exit(main())
