"""Steps that several commands run alike: their options, checked before any work, and their sentences."""

from __future__ import annotations

import numpy as np

from fpga_bridge.devices.host import check_timeout
from ttjax import Batch, ModelConfig, UserError
from ttjax.data import Corpus, build_vocabulary, config_for, encode
from ttjax.errors import check_count
from ttjax.train import check_seed


def check_run(steps: int, rate: float, seed: int, timeout: float) -> None:
    """Refuses options of a run of steps that can't be, before any work.

    Raises:
        UserError: no step, a rate that float32 doesn't hold, a seed or a timeout out of range.
    """
    check_count("--steps", steps)
    if not abs(rate) <= float(np.finfo(np.float32).max):
        raise UserError(f"--rate: expected a number that float32 holds, found {rate:g}")
    check_seed(seed)
    check_timeout(timeout)


def draw_sentences(corpus: Corpus, start: ModelConfig, n: int, seed: int) -> tuple[ModelConfig, Batch]:
    """The config with the corpus's label counts, and n training sentences drawn without repetition.

    Raises:
        UserError: the corpus has fewer.
    """
    vocabulary = build_vocabulary(corpus, start.vocab_size)
    config = config_for(start, vocabulary)
    sentences = encode(corpus.train, vocabulary, config.seq_len).batch
    available = len(sentences.length)
    if n > available:
        raise UserError(f"--steps: expected at most the {available} training sentences, found {n}")
    drawn = np.random.default_rng(seed).permutation(available)[:n]
    return config, Batch(*(np.asarray(field)[drawn] for field in sentences))
