"""What gpu_baseline measures of one configuration, in the process that it runs this in.

The training code is that of a run: real sentences in an epoch's order, the recipe's optimizer, scan_steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.gpu_meters import EnergyMeter, NotMeasured, launches, open_meter
from ttjax.batch import Batch
from ttjax.config import preset
from ttjax.contraction import Flow
from ttjax.data import build_vocabulary, config_for, encode, load_corpus
from ttjax.provenance import versions
from ttjax.recipe import Recipe
from ttjax.step import padded_lengths, scan_steps, sgd_step
from ttjax.train import epoch_batches, start_training

PRECISION = "highest"  # float32 through and through; by default JAX lets a GPU round products to TF32
PRODUCT_ERROR = 1e-5  # relative; float32 has 1e-7, TF32 3e-4
EPOCHS = 3
ENERGY_SECONDS = 10.0


@dataclass(frozen=True)
class Job:
    """One configuration to measure. cache: folder of compiled programs, shared by the processes."""

    preset: str
    format: str
    flow: Flow
    data: str | None
    steps: int
    rounds: int
    epoch: bool
    seed: int
    cache: str


class Training:
    """A training in this process: the first sentences of an epoch, and the program that goes through them."""

    def __init__(self, job: Job) -> None:
        # Set, not entered: for all of this process, in whatever thread JAX traces.
        jax.config.update("jax_default_matmul_precision", PRECISION)
        jax.config.update("jax_compilation_cache_dir", job.cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        corpus = load_corpus(job.data, fetch=False, notify=lambda _: None)
        config = preset(job.preset).replace(format=job.format)
        vocabulary = build_vocabulary(corpus, config.vocab_size)
        recipe = Recipe(seed=job.seed)
        self.config, self.flow = config_for(config, vocabulary), job.flow
        self.optimizer = recipe.optax(self.config, len(corpus.train))
        start = start_training(job.seed, self.config, self.optimizer)
        batches = encode(corpus.train, vocabulary, self.config.seq_len).batch
        self.epoch = epoch_batches(start.key, 0, batches, recipe.word_dropout)
        self.pool: Batch = jax.tree.map(lambda field: field[: job.steps], self.epoch)
        self.state: list[Any] = [start.params, start.opt_state]
        self.compiled = scan_steps.lower(
            *self.state, self.pool, self.optimizer, self.config, self.flow
        ).compile()

    def scan(self) -> None:
        """Once through the pool in one compiled loop."""
        self._went_on(self.compiled(*self.state, self.pool))

    def scan_epoch(self) -> None:
        """Through the whole epoch, likewise; compiles when first called."""
        self._went_on(scan_steps(*self.state, self.epoch, self.optimizer, self.config, self.flow))

    def calls(self) -> Callable[[], None]:
        """A function that goes once through the pool by calls of sgd_step, each waited for.

        Each sentence is cut to the length that scan_steps pads it to.
        """
        lengths = padded_lengths(self.config.seq_len)
        sentences = []
        for i, own in enumerate(np.asarray(self.pool.length)):
            one: Batch = jax.tree.map(lambda field, i=i: field[i], self.pool)
            cut = next(n for n in lengths if n >= own)
            sentences.append(one._replace(tokens=one.tokens[:cut], slots=one.slots[:cut]))

        def go() -> None:
            losses = []
            for sentence in sentences:
                *self.state[:], loss = jax.block_until_ready(
                    sgd_step(*self.state, sentence, self.optimizer, self.config, self.flow)
                )
                losses.append(loss)
            _finite(jnp.stack(losses))

        return go

    def _went_on(self, result: tuple[Any, Any, jax.Array]) -> None:
        *self.state[:], losses = jax.block_until_ready(result)
        _finite(losses)


def measure(job: Job) -> dict[str, Any]:
    """All of one configuration but its peak memory."""
    training = Training(job)
    device = jax.local_devices()[0]
    on_gpu, sentences = device.platform == "gpu", len(training.epoch.length)
    missing = {}
    row: dict[str, Any] = {
        "format": job.format,
        **({"flow": job.flow} if job.format == "tt" else {}),
        "not_measured": missing,
        "machine": versions()
        | {"platform": device.platform, "runtime": str(device.client.platform_version)}
        | {"product_error": product_error()},
        "sentence_tokens": float(np.mean(training.pool.length)),
        "scan_ms": _spread(_times(training.scan, job.rounds), job.steps),
        "call_ms": _spread(_times(training.calls(), job.rounds), job.steps),
    }
    if job.epoch:
        row["epoch_seconds"] = _times(training.scan_epoch, EPOCHS)
    else:
        row["scaled_epoch_seconds"] = 1e-3 * row["scan_ms"]["median"] * sentences
    counted = "launches" if on_gpu else "instructions"
    try:
        row[counted] = dict(launches(training.compiled.as_text() or "", job.steps).most_common())
    except NotMeasured as reason:
        missing[counted] = str(reason)
    if not on_gpu:
        missing["launches"] = f"no GPU: JAX runs on the {device.platform}, whose instructions are counted"
    if (sizes := training.compiled.memory_analysis()) is not None:
        whole = sizes.argument_size_in_bytes + sizes.output_size_in_bytes + sizes.temp_size_in_bytes
        row["program_bytes"] = whole - sizes.alias_size_in_bytes
    else:
        missing["program memory"] = "XLA reports none on this backend"
    if peak_bytes() is None:
        missing["peak memory"] = f"no statistics of memory from JAX on this device ({device.platform})"
    try:
        row |= _energy(training, job, sentences, _meter_of(device))
    except NotMeasured as reason:
        missing["energy"] = str(reason)
    return row


def measure_peak(job: Job) -> dict[str, Any]:
    """Peak memory of going through the pool, in a process that finds all compiled.

    ``peak_is_bound``: the preparations took as much or more, so a step's own peak may be lower.
    """
    training = Training(job)
    before = peak_bytes() or 0
    training.scan()
    after = peak_bytes() or 0
    return {"peak_bytes": after, "peak_is_bound": after <= before}


def peak_bytes() -> int | None:
    """The allocator's peak on the first device so far; None where it keeps no statistics."""
    return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def product_error() -> float:
    """Relative error of one product of float32 matrices on the device, against float64.

    Raises:
        RuntimeError: products are rounded to something shorter, as TF32.
    """
    a, b = np.random.default_rng(0).standard_normal((2, 512, 512)).astype(np.float32)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    found = np.asarray(jnp.asarray(a) @ jnp.asarray(b), np.float64)
    error = float(np.linalg.norm(found - exact) / np.linalg.norm(exact))
    if not error < PRODUCT_ERROR:
        raise RuntimeError(
            f"products aren't float32's: relative error {error:.1e}, allowed {PRODUCT_ERROR:g}"
        )
    return error


def _meter_of(device: Any) -> EnergyMeter:
    if device.platform != "gpu":
        raise NotMeasured(f"no GPU: JAX runs on the {device.platform}")
    meter = open_meter()
    if meter.name != device.device_kind:
        raise NotMeasured(
            f"JAX runs on {device.device_kind}, NVML's first GPU is {meter.name}: name one in"
            " CUDA_VISIBLE_DEVICES"
        )
    return meter


def _energy(training: Training, job: Job, sentences: int, meter: EnergyMeter) -> dict[str, Any]:
    """Energy of an epoch, over ENERGY_SECONDS or more: of whole ones, or scaled from the pool."""
    work, steps = (training.scan_epoch, sentences) if job.epoch else (training.scan, job.steps)
    found = meter.measure(work, ENERGY_SECONDS)
    joules = found.joules / (found.rounds * steps) * sentences
    return {
        "epoch_joules" if job.epoch else "scaled_epoch_joules": joules,
        "watts": found.watts,
        "energy_source": found.source,
        "energy_seconds": found.seconds,
    }


def _times(work: Callable[[], None], rounds: int) -> list[float]:
    """Seconds of each round, after one that compiles and warms up."""
    work()
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return found


def _spread(seconds: list[float], steps: int) -> dict[str, Any]:
    ms = [1e3 * s / steps for s in seconds]
    low, high = np.percentile(ms, (25, 75))
    return {
        "median": float(np.median(ms)),
        "quartiles": [float(low), float(high)],
        "extremes": [min(ms), max(ms)],
        "rounds": ms,
    }


def _finite(losses: jax.Array) -> None:
    if not np.isfinite(losses).all():
        raise RuntimeError("the training diverged while it was measured")
