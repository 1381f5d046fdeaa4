"""The arrays of a failing step in a file: written to find the cause with, read to run the step again."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, Self, cast

import numpy as np

from fpga_bridge.device import Trace
from ttjax import Batch, ModelConfig, Params, UserError, flatten, unflatten
from ttjax.config import fields_of_json
from ttjax.output import check_file, check_writable, replace_file, resolved
from ttjax.params import check_params

# What NumPy raises for a file that is none of its own, or no longer as it was.
DAMAGES = (ValueError, EOFError, zipfile.BadZipFile, zlib.error)
INPUT = "input"  # beside the sides: what the step started from
# Among the input's names, as JSON: the model's config, and the identity of the corpus.
ORIGIN = ("config", "data")


class KeptStep(NamedTuple):
    """A step as a file has it: its model, the identity of its corpus (``Corpus.identity``), its input."""

    config: ModelConfig
    data: dict[str, str | bool]
    given: StepInput


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


def keep_arrays(
    failing: dict[str, Trace], config: ModelConfig, data: dict[str, str | bool], path: Path
) -> None:
    """Writes the arrays of a failing step as .npz, named SIDE/NAME: of device, jax and truth, and the input.

    Beside the input's arrays, as texts of JSON: the ``config``, and the identity of the corpus, ``data``.

    Raises:
        UserError: the file can't be written.
    """
    target = check_keep(path)
    arrays = {f"{side}/{name}": array for side, trace in failing.items() for name, array in trace.items()}
    for name, origin in zip(ORIGIN, (asdict(config), data), strict=True):
        arrays[f"{INPUT}/{name}"] = np.asarray(json.dumps(origin))
    content = io.BytesIO()
    # Names of arrays alone: NumPy 2.0 keeps any other keyword as an array too.
    np.savez_compressed(content, **cast(Any, arrays))
    try:
        replace_file(target, content.getvalue(), make_folder=True)
    except OSError as error:
        raise UserError(f"can't write {path}: {error.strerror}; choose another with --keep") from None


def read_input(path: Path, asked: ModelConfig) -> KeptStep:
    """The step whose arrays ``keep_arrays`` wrote; its label counts may be others than those of ``asked``.

    Raises:
        UserError: the file can't be read, is none of those or another version's, or its model is not the
            one asked for.
    """
    foreign = UserError(
        f"{path}: expected the arrays of a step that `fpga-bridge cosim` has kept, found another file or a"
        " damaged one"
    )
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            names = [name for name in file.files if name.startswith(f"{INPUT}/")]
            arrays = {name.removeprefix(f"{INPUT}/"): file[name] for name in names}
        origin = {name: json.loads(str(arrays.pop(name))) for name in ORIGIN if name in arrays}
        given = StepInput.of(arrays)
    except OSError as error:
        raise UserError(f"{path}: can't read it ({error.strerror or error})") from None
    except (*DAMAGES, KeyError, IndexError, TypeError, AttributeError):
        raise foreign from None
    if origin.keys() != {*ORIGIN} or origin["config"].keys() != asdict(asked).keys():
        raise UserError(
            f"{path}: expected the model's options and the corpus beside the arrays, found a step that"
            " another version has kept: let this one run and keep it anew"
        )
    config = ModelConfig(**fields_of_json(origin["config"]))
    try:
        check_params(given.params, config)
    except UserError:
        raise foreign from None
    if given.sentence.tokens.shape != (config.seq_len,):
        raise foreign
    # How many labels there are is the corpus's to say, and a step that is run again needs none.
    of_corpus = {"n_intents": config.n_intents, "n_slots": config.n_slots}
    found = asdict(asked.replace(**of_corpus))
    for name, kept in asdict(config).items():
        if kept != found[name]:
            raise UserError(
                f"{path}: expected {name} {kept} as in the run that kept the step, found {found[name]}: give"
                " the model's options of that run"
            )
    return KeptStep(config, origin["data"], given)
