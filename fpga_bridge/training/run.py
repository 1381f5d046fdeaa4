"""Training on the kernel: a run's epochs on a device, and JAX's own training of the same run beside it.

Sentences, rates, averages and scores are those of ``ttjax``; steps and predictions are the device's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fpga_bridge.agreement.compare import relative_distance
from fpga_bridge.devices.host import KernelDevice
from ttjax import Batch, Params, Recipe, UserError, flatten
from ttjax.cli_progress import Watch
from ttjax.data.corpus import Split
from ttjax.evaluate import Predictions, evaluate, score_predictor
from ttjax.step import scan_steps
from ttjax.train import TrainState, check_finite, complete_epoch
from ttjax.training_run import Epoch, Run

PER_CALL = 256


class JaxBeside:
    """JAX's own training of a run, which stops where the device can be compared with it.

    Matrix products run at the highest precision (a GPU would otherwise use TF32).
    """

    def __init__(self, run: Run) -> None:
        self._run, self._losses = run, list[np.ndarray]()
        self.state = run.start()

    def steps(self, examples: Batch) -> dict[str, np.ndarray]:
        """Trains on n examples (leading axis n); returns the parameters after them by name."""
        run, state = self._run, self.state
        with jax.default_matmul_precision("highest"):
            params, opt_state, losses = scan_steps(
                state.params, state.opt_state, examples, run.optimizer, run.config, run.plan.recipe.flow
            )
        self.state = state._replace(params=params, opt_state=opt_state)
        self._losses.append(np.asarray(losses))
        return {name: np.asarray(leaf) for name, leaf in flatten(params).items()}

    def complete(self) -> float:
        """The epoch is at its end; returns its mean loss.

        Raises:
            UserError: a loss isn't finite.
        """
        losses, self._losses = np.concatenate(self._losses), []
        averaged = self._run.plan.recipe.averaged(self.state.epoch + 1)
        self.state = complete_epoch(self.state, self.state.params, self.state.opt_state, losses, averaged)
        return float(losses.mean())

    def catch_up(self, epoch: int, per_call: int) -> None:
        """Does the epochs that a checkpoint has: JAX's side of it isn't kept, but is the same each time."""
        while self.state.epoch < epoch:
            for part in pieces(self._run.examples(self.state), per_call):
                self.steps(part)
            self.complete()

    def evaluate(self, split: Split) -> dict[str, Any]:
        """Scores of the averaged parameters on a split."""
        run = self._run
        with jax.default_matmul_precision("highest"):
            return evaluate(self.state.average, split, run.vocabulary, run.config, run.plan.recipe.flow)


class KernelTrainer:
    """The ``Trainer`` whose steps and predictions are those of a device that runs the kernel.

    Nothing is left on the device from one epoch to the next that the run's state doesn't have: going on
    from a checkpoint is going on.

    Args:
        run: what to train.
        device: for the run's configuration.
        per_call: sentences that the device gets at a time.
        beside: JAX's training of the same run, or None to train alone.

    Raises:
        UserError: the run's recipe isn't one for the kernel.
    """

    def __init__(self, run: Run, device: KernelDevice, per_call: int, beside: JaxBeside | None) -> None:
        check_recipe(run.plan.recipe)
        self._run, self._device, self._per_call, self._beside = run, device, per_call, beside

    def train_epoch(self, state: TrainState, watch: Watch) -> Epoch:
        """The run's next epoch; its row gets ``jax`` and ``drift`` where JAX goes beside.

        jax: mean loss, and scores on dev. drift: after each call the number of steps since the start of
        training, and the relative distance of the device's parameters from JAX's.
        """
        run, recipe = self._run, self._run.plan.recipe
        if self._beside is not None:
            self._beside.catch_up(state.epoch, self._per_call)
        batch = run.examples(state)
        n, done = len(batch.length), 0
        rates = recipe.rates(run.config, n, state.step, n)
        self._device.load(state.params)
        watch.leave_out()
        losses, drift = [], []
        for part in pieces(batch, self._per_call):
            of_part = self._device.steps(part, rates[done : done + len(part.length)])[:, 0]
            check_finite(of_part, n, done)
            done += len(of_part)
            losses.append(of_part)
            watch.on_steps(done, float(of_part.mean()))
            if self._beside is not None:
                here, there = flatten(self._device.read()), self._beside.steps(part)
                drift.append([state.step + done, relative_distance(here, there)])
                watch.leave_out()
        of_epoch = np.concatenate(losses)
        # All that plain SGD keeps besides the parameters is how many steps it has done.
        count = jnp.asarray(state.step + n, jnp.int32)
        after = complete_epoch(
            state,
            self._device.read(),
            optax.tree_utils.tree_set(state.opt_state, count=count),
            of_epoch,
            recipe.averaged(state.epoch + 1),
        )
        if self._beside is None:
            return Epoch(after, of_epoch, {})
        jax_row = {"loss": self._beside.complete(), "dev": self._beside.evaluate(run.corpus.dev)}
        return Epoch(after, of_epoch, {"jax": jax_row, "drift": drift})

    def evaluate(self, params: Params, split: Split, on_chunk: Callable[[int], None]) -> dict[str, Any]:
        """Scores on a split of what the device predicts with these parameters."""
        self._device.load(params)

        def predictor(batch: Batch) -> Predictions:
            intents, slots = [], []
            for part in pieces(batch, self._per_call):
                logits = self._device.infer_all(part)
                intents.extend(np.argmax(logits.intent, axis=-1))
                slots.extend(np.argmax(logits.slots, axis=-1))
                on_chunk(len(intents))
            return Predictions(np.array(intents), np.array(slots))

        return score_predictor(predictor, split, self._run.vocabulary, self._run.config)


def check_recipe(recipe: Recipe) -> None:
    """Refuses a recipe whose steps aren't those of the kernel.

    Raises:
        UserError: another optimizer than sgd, or another flow than bidirectional.
    """
    for name, does in (("optimizer", "sgd"), ("flow", "bidirectional")):
        found = getattr(recipe, name)
        if found != does:
            raise UserError(
                f"--{name}: expected {does}, the only one that the kernel does, found {found}: leave it out,"
                " or train on JAX with `ttjax train`"
            )


def pieces(batch: Batch, n: int) -> Iterator[Batch]:
    """The examples n at a time, the last piece as long as they last, as numpy arrays."""
    fields = [np.asarray(field) for field in batch]
    for start in range(0, len(fields[0]), n):
        yield Batch(*(field[start : start + n] for field in fields))
