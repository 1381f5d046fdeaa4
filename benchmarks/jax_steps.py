"""Our own trainings to be timed: by flow, by format, by optimizer, one call a step, and through flax modules.

Each starts from the same seed and carries its parameters through a pool of random sentences.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from benchmarks.timing import NotRun, Training
from ttjax import model
from ttjax.batch import Batch
from ttjax.config import ModelConfig
from ttjax.contraction import Flow
from ttjax.costs import multiplications, step_multiplications
from ttjax.data import build_vocabulary, config_for, encode, load_corpus
from ttjax.params import Params, init_params, linear_names
from ttjax.recipe import Recipe
from ttjax.step import scan_steps, sgd_step
from ttjax.train import epoch_batches

# Small, so that thousands of steps on a few random sentences stay finite; a time doesn't depend on it.
RATE = 1e-3
OPTIMIZER = optax.sgd(RATE)

Loss = Callable[[Params, Batch], Array]


@dataclass(frozen=True)
class Case:
    """One size of the model, a number of sentences a step, and the pool: ``steps`` batches of random ids.

    All sentences are as long as the model allows: no step can save anything on padding.
    """

    label: str
    config: ModelConfig
    batch: int
    steps: int

    def pool(self) -> Batch:
        """The examples, numpy int32, with leading axes (steps, batch)."""
        rng, config = np.random.default_rng(0), self.config
        shape = (self.steps, self.batch)

        def ids(limit: int, *more: int) -> np.ndarray:
            return np.asarray(rng.integers(0, limit, (*shape, *more)), np.int32)

        return Batch(
            tokens=ids(config.vocab_size, config.seq_len),
            length=np.full(shape, config.seq_len, np.int32),
            intent=ids(config.n_intents),
            slots=ids(config.n_slots, config.seq_len),
        )

    def same_as(self, format: str = "tt", rank: int | None = None) -> str:
        """``Training.same_as`` of its trainings in a format, at a rank or (None) at the config's own."""
        return f"{self.label} {format} {rank}"

    def params(self, config: ModelConfig | None = None) -> Params:
        """The parameters that every training of this case starts from."""
        return jax.jit(init_params, static_argnums=1)(jax.random.key(0), config or self.config)


def by_scan(
    case: Case, flow: Flow = "bidirectional", format: str = "tt", rank: int | None = None
) -> Training:
    """``scan_steps``, as an epoch trains; with several sentences a step a plain scan over their mean loss."""
    config = case.config.replace(format=format)
    config = config if rank is None else config.with_rank(rank)
    same_as = case.same_as(format, rank)
    if case.batch > 1:
        return _plain(case, config, partial(_mean_loss, config=config, flow=flow), same_as)
    return _optax_scan(case, config, flow, same_as)


def by_calls(case: Case) -> Training:
    """One call of the compiled ``sgd_step`` a sentence, each waited for: what Python's dispatch costs."""
    config, pool = case.config, _singles(case)
    state: list[Any] = [params := case.params(), OPTIMIZER.init(params)]
    sentences = [jax.tree.map(lambda field, i=i: field[i], pool) for i in range(case.steps)]

    def advance() -> np.ndarray:
        losses = []
        for sentence in sentences:
            *state[:], value = sgd_step(*state, sentence, OPTIMIZER, config)
            losses.append(float(value))  # one program: with the loss all of it has arrived
        return np.asarray(losses)

    return Training(advance, step_multiplications(config), case.same_as())


def by_plain_update(case: Case) -> Training:
    """A scan that updates by p - rate * g, without optax: what ``optax.sgd`` costs on top."""
    loss = partial(_mean_loss, config=case.config, flow="bidirectional")
    return _plain(case, case.config, loss, case.same_as())


def by_flax_modules(case: Case) -> Training:
    """The plain scan with each linear layer through ``ttjax.modules.TTDense``: what the modules cost."""
    config = case.config
    from ttjax.modules import TTDense

    module = TTDense(
        config.d_model, in_modes=config.in_modes, out_modes=config.out_modes, ranks=config.tt_ranks
    )
    calls = []

    def linear(layer: Params, x: Array, *_: Any) -> Array:
        calls.append(x.shape)
        kernel = {name: leaf for name, leaf in layer.items() if name != "bias"}
        return module.apply({"params": {"kernel": kernel, "bias": layer["bias"]}}, x)  # type: ignore[return-value]

    def loss(params: Params, batch: Batch) -> Array:
        # Nor are halves merged that no module asks for.
        with mock.patch.multiple(model, linear=linear, all_halves=lambda *_: {}):
            return _mean_loss(params, batch, config, "bidirectional")

    training = _plain(case, config, loss, case.same_as())
    # The count has traced the loss once.
    if len(calls) != len(linear_names(config)):
        raise NotRun(f"the model called its linear layer {len(calls)} times: it can't be replaced this way")
    return training


def epoch_seconds(config: ModelConfig, data: str | None, repeats: int) -> tuple[list[float], int]:
    """Seconds of a whole epoch of ATIS in one compiled scan (compiled before), and its number of sentences.

    Raises:
        NotRun: the corpus isn't ATIS.
    """
    corpus = load_corpus(data, fetch=False, notify=lambda _: None)
    if corpus.name != "atis":
        raise NotRun(f"there is no ATIS here, found {corpus.name}: set TTJAX_DATA to its folder")
    vocabulary = build_vocabulary(corpus, config.vocab_size)
    config = config_for(config, vocabulary)
    batches = encode(corpus.train, vocabulary, config.seq_len).batch
    params = init_params(jax.random.key(0), config)
    state: Any = (params, OPTIMIZER.init(params))
    word_dropout, found = Recipe().word_dropout, []
    for epoch in range(1 + repeats):
        examples = jax.block_until_ready(epoch_batches(jax.random.key(1), epoch, batches, word_dropout))
        began = time.perf_counter()
        *state, losses = jax.block_until_ready(scan_steps(*state, examples, OPTIMIZER, config))
        found.append(time.perf_counter() - began)
        if not np.isfinite(losses).all():
            raise RuntimeError("the epoch diverged while it was timed")
    return found[1:], len(corpus.train)


def _optax_scan(case: Case, config: ModelConfig, flow: Flow, same_as: str) -> Training:
    pool = _singles(case)
    state: list[Any] = [params := case.params(config), OPTIMIZER.init(params)]

    def advance() -> np.ndarray:
        *state[:], losses = jax.block_until_ready(scan_steps(*state, pool, OPTIMIZER, config, flow))
        return np.asarray(losses)

    return Training(advance, step_multiplications(config, flow), same_as)


def _plain(case: Case, config: ModelConfig, loss: Loss, same_as: str) -> Training:
    pool = jax.tree.map(jnp.asarray, case.pool())
    state = [case.params(config)]
    counted = multiplications(jax.grad(loss), state[0], jax.tree.map(lambda field: field[0], pool))

    def advance() -> np.ndarray:
        state[0], losses = jax.block_until_ready(_plain_scan(state[0], pool, loss))
        return np.asarray(losses)

    return Training(advance, counted, same_as)


@partial(jax.jit, static_argnames="loss", donate_argnums=0)
def _plain_scan(params: Params, batches: Batch, loss: Loss) -> tuple[Params, Array]:
    def step(params: Params, batch: Batch) -> tuple[Params, Array]:
        value, gradients = jax.value_and_grad(loss)(params, batch)
        return jax.tree.map(lambda p, g: p - RATE * g, params, gradients), value

    return jax.lax.scan(step, params, batches)


def _mean_loss(params: Params, batch: Batch, config: ModelConfig, flow: Flow) -> Array:
    """Mean loss of the sentences on the leading axis; of a single one without vmap, which could cost."""
    if batch.length.shape == (1,):
        return model.loss(params, jax.tree.map(lambda field: field[0], batch), config, flow=flow)
    return jnp.mean(jax.vmap(lambda one: model.loss(params, one, config, flow=flow))(batch))


def _singles(case: Case) -> Batch:
    """The pool of a case of one sentence a step, without the axis of one."""
    return jax.tree.map(lambda field: jnp.asarray(field[:, 0]), case.pool())
