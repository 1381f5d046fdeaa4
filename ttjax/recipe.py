"""All that a training run is made of besides the model's configuration and the data.

The same recipe, configuration and data give the same bits, on the same machine and versions.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float32

from ttjax.config import Format, ModelConfig
from ttjax.contraction import Flow, checked_flow
from ttjax.errors import UserError, check_count
from ttjax.optimizers import ENDLESS, OPTIMIZERS, check_name, make_optimizer, make_schedule
from ttjax.train import check_seed

# Peak learning rates at which the two formats train well; without a long warm-up, 8e-3 makes some seeds of
# the tensor model collapse, and 1e-2 does so to some after 5 epochs of it.
PEAK_LEARNING_RATE: dict[Format, float] = {"tt": 7e-3, "dense": 2e-3}
# Of the peaks of sgd, for the same size of update; for the others, whose updates don't grow with the
# gradient, one peak each: usual values, not searched for.
_OF_SGD = {"sgd": 1.0, "momentum": 0.1, "nesterov": 0.1}
_OWN_PEAK = {"lion": 1e-4, "adagrad": 1e-2}
_USUAL_PEAK = 1e-3


@dataclass(frozen=True)
class Recipe:
    """How to train; the defaults are what reaches the accuracy that the README states.

    optimizer, schedule: names in ``optimizers.OPTIMIZERS`` and ``SCHEDULES``. peak_learning_rate: reached
    after ``warm_up`` epochs; None leaves them to ``peak`` and ``rise``. epochs: length of the schedule.
    hide_digits: words are read with # for each digit. exchange: share of slot values replaced by others of
    their kind (``ttjax.data.exchange``), recombine: share of sentences that end as another one of their
    intent does (``ttjax.data.recombine``), reopen: share of sentences that begin in another way of the same
    meaning (``ttjax.data.openings``), word_dropout: share of words read as unknown; all are drawn anew in
    each epoch. average: the last epochs, as a share of all, whose final parameters are averaged into
    those that are scored and kept. seed: of the parameters' start and of every epoch's order and draws.
    flow: contraction order of the TT layers.

    Raises:
        UserError: an unknown name, or a number outside its range.
    """

    optimizer: str = "sgd"
    schedule: str = "linear"
    peak_learning_rate: float | None = None
    epochs: int = 40
    warm_up: float | None = None
    hide_digits: bool = True
    exchange: float = 0.5
    recombine: float = 0.25
    reopen: float = 0.5
    word_dropout: float = 0.05
    average: float = 0.1
    seed: int = 0
    flow: Flow = "bidirectional"

    def __post_init__(self) -> None:
        check_name("optimizer", self.optimizer, OPTIMIZERS)
        check_count("epochs", self.epochs)
        # Refuses what doesn't depend on the data: the name, the peak, the warm-up.
        make_schedule(self.schedule, self.peak("tt"), 1, self.epochs, self.rise())
        if not 0 <= self.word_dropout < 1:
            raise UserError(
                f"word dropout: expected a probability from 0 to below 1, found {self.word_dropout}"
            )
        for name in ("exchange", "recombine", "reopen"):
            share = getattr(self, name)
            if not 0 <= share <= 1:
                raise UserError(f"{name}: expected a probability from 0 to 1, found {share}")
        if not 0 <= self.average <= 1:
            raise UserError(f"average: expected a share of the epochs from 0 to 1, found {self.average}")
        check_seed(self.seed)
        checked_flow(self.flow)

    def peak(self, form: Format) -> float:
        """The peak learning rate; where none is given, one for the optimizer and the model's format."""
        if self.peak_learning_rate is not None:
            return self.peak_learning_rate
        if self.optimizer in _OF_SGD:
            return _OF_SGD[self.optimizer] * PEAK_LEARNING_RATE[form]
        return _OWN_PEAK.get(self.optimizer, _USUAL_PEAK)

    def rise(self) -> float:
        """Epochs of warm-up; where none are given, 2, or half of the epochs if that is less."""
        return min(2.0, self.epochs / 2) if self.warm_up is None else self.warm_up

    def written_out(self, form: Format) -> Recipe:
        """The same recipe with no field left to a default that depends on the others or on the format."""
        return dataclasses.replace(self, peak_learning_rate=self.peak(form), warm_up=self.rise())

    def averaged(self, epoch: int) -> int:
        """How many epochs' parameters the average holds after ``epoch`` of them: always its own at least."""
        first = self.epochs - max(1, round(self.average * self.epochs)) + 1
        return max(1, epoch - first + 1)

    def optax(self, config: ModelConfig, sentences: int) -> optax.GradientTransformation:
        """The optimizer with its schedule, for epochs of so many sentences."""
        return make_optimizer(self.optimizer, self._rate_by_step(config, sentences), config)

    def rates(self, config: ModelConfig, sentences: int, step: int, n: int) -> Float32[np.ndarray, " n"]:
        """What that optimizer has for learning rates in n steps, when ``step`` of them are done before."""
        schedule = self._rate_by_step(config, sentences)
        return np.asarray(jax.jit(jax.vmap(schedule))(step + jnp.arange(n, dtype=jnp.int32)), np.float32)

    def _rate_by_step(self, config: ModelConfig, sentences: int) -> optax.Schedule:
        return make_schedule(self.schedule, self.peak(config.format), sentences, self.epochs, self.rise())

    def until(self, epochs: int) -> Recipe:
        """The recipe whose first ``epochs`` epochs are this one's as far as this one goes.

        Raises:
            UserError: there is none, since this one's rates or its average depend on where it ends.
        """
        if epochs <= self.epochs:
            return self
        if self.schedule not in ENDLESS or self.average > 0:
            raise UserError(
                f"--epochs: expected at most {self.epochs}, for which the {self.schedule} schedule and the"
                f" average of {self.average:g} were made, found {epochs}: train anew with --schedule-epochs"
                f" {epochs}; with the schedule {', '.join(ENDLESS)} and an average of 0 it could have gone on"
            )
        return dataclasses.replace(self, epochs=epochs)
