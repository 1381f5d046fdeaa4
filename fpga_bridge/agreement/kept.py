"""The arrays of a failing step in a file: written to find the cause with, read to run the step again."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple, Self, cast

import numpy as np

from fpga_bridge.device import Trace
from ttjax import Batch, ModelConfig, Params, UserError, flatten, unflatten
from ttjax.output import check_file, check_writable, replace_file, resolved
from ttjax.params import check_params

# What NumPy raises for a file that is none of its own, or no longer as it was.
DAMAGES = (ValueError, EOFError, zipfile.BadZipFile, zlib.error)
INPUT = "input"  # beside the sides: what the step started from


class StepInput(NamedTuple):
    """All that a step starts from: the device's parameters, one sentence, the learning rate."""

    params: Params
    sentence: Batch
    rate: float

    def arrays(self) -> Trace:
        """By name: the parameters, the sentence's fields, and ``rate``."""
        ids = {name: np.asarray(field) for name, field in self.sentence._asdict().items()}
        parameters = {name: np.asarray(leaf) for name, leaf in flatten(self.params).items()}
        return {**parameters, **ids, "rate": np.asarray(self.rate, np.float32)}

    @classmethod
    def of(cls, arrays: Trace) -> Self:
        """The inverse of ``arrays``; a KeyError names what is missing."""
        sentence = Batch(*(arrays[name] for name in Batch._fields))
        others = arrays.keys() - {*Batch._fields, "rate"}
        params = unflatten({name: arrays[name] for name in others})
        return cls(params, sentence, float(arrays["rate"]))


def check_keep(path: Path) -> Path:
    """The path behind links, after checking that ``keep_arrays`` can write there; makes no folder.

    Raises:
        UserError: something other than a file is there, or its folder can't be written to or made.
    """
    target = resolved(path)
    if target.exists():
        return check_file(path)
    nearest = next(folder for folder in target.parents if folder.exists())
    check_writable(nearest / target.name, str(path))
    return target


def keep_arrays(failing: dict[str, Trace], path: Path) -> None:
    """Writes the arrays of a failing step as .npz, named SIDE/NAME: of device, jax and truth, and the input.

    Raises:
        UserError: the file can't be written.
    """
    target = check_keep(path)
    arrays = {f"{side}/{name}": array for side, trace in failing.items() for name, array in trace.items()}
    content = io.BytesIO()
    # Names of arrays alone: NumPy 2.0 keeps any other keyword as an array too.
    np.savez_compressed(content, **cast(Any, arrays))
    try:
        replace_file(target, content.getvalue(), make_folder=True)
    except OSError as error:
        raise UserError(f"can't write {path}: {error.strerror}; choose another with --keep") from None


def read_input(path: Path, start: ModelConfig) -> tuple[ModelConfig, StepInput]:
    """The step whose arrays ``keep_arrays`` wrote, and the config with the label counts that it has.

    Raises:
        UserError: the file can't be read, is none of those, or is of another model.
    """
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            names = [name for name in file.files if name.startswith(f"{INPUT}/")]
            step = StepInput.of({name.removeprefix(f"{INPUT}/"): file[name] for name in names})
        labels = [step.params[head]["bias"].shape[0] for head in ("intent_out", "slot_out")]
        tokens = step.sentence.tokens.shape
    except OSError as error:
        raise UserError(f"{path}: can't read it ({error.strerror or error})") from None
    except (*DAMAGES, KeyError, IndexError, TypeError, AttributeError):
        raise UserError(
            f"{path}: expected the arrays of a step that `fpga-bridge cosim` has kept, found another file or"
            " a damaged one"
        ) from None
    config = start.replace(n_intents=labels[0], n_slots=labels[1])
    try:
        check_params(step.params, config)
    except UserError as error:
        raise UserError(f"{path}: {error}: give the options of the model that the step is of") from None
    if tokens != (config.seq_len,):
        raise UserError(
            f"{path}: expected a sentence padded to {config.seq_len} tokens, found {tokens}: give the options"
            " of the model that the step is of"
        )
    return config, step
