"""Checkpoints: the whole of a training run between two epochs in one safetensors file, whole or not at all.

The parameters bear their dotted names, so that any reader of safetensors finds them. A sha256 over every
byte of the file finds damage.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from ttjax.config import ModelConfig, fields_of_json
from ttjax.data.vocabulary import Vocabulary
from ttjax.errors import UserError
from ttjax.optimizers import state_names
from ttjax.output import write_whole
from ttjax.params import Params, flatten, init_params, unflatten
from ttjax.recipe import Recipe
from ttjax.train import TrainState

FORMAT_VERSION = 1
# Keys of the safetensors metadata: ours as JSON, and the digest of the file with 64 zeros in its place.
_META, _DIGEST = "ttjax", "sha256"
_UNSIGNED = "0" * 64
# Fields of a Checkpoint that are dataclasses, and those that are JSON as they are.
_RECORDS = ("config", "recipe", "data", "vocabulary")
_PLAIN = ("preset", "rows", "versions")
# What a field meant before there was one, by record; a new field needs a line. When the default stood in for
# it, runs from before ``recombine`` were resumed with a quarter of their sentences recombined.
ABSENT: dict[str, dict[str, Any]] = {"recipe": {"recombine": 0.0, "reopen": 0.0}}
# Before the names of what isn't a parameter after the last epoch. No parameter's name has a slash.
_AVERAGE, _BEST, _OPTIMIZER, _RNG = "average/", "best/", "optimizer/", "rng/epochs"


@dataclass(frozen=True)
class TrainingData:
    """Which data a run trains on: ``given`` is where it was looked for, the others what was found there."""

    given: str | None
    name: str
    digest: str
    train_sentences: int


class Best(NamedTuple):
    """The parameters with the best score on dev so far, with all of their scores there, and their epoch."""

    params: Params
    epoch: int
    scores: dict[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """A training run between two epochs.

    rows: the results of each epoch so far, as they will stand in the run's JSON. versions: of the
    packages, and the device, that made them.
    """

    state: TrainState
    best: Best
    preset: str
    config: ModelConfig
    recipe: Recipe
    data: TrainingData
    vocabulary: Vocabulary
    rows: list[dict[str, Any]]
    versions: dict[str, str]

    def trained(self, *, best: bool = False) -> TrainedModel:
        """The model to use: the average after the last epoch, or the ``best`` on dev."""
        params = self.best.params if best else self.state.average
        return TrainedModel(params, self.config, self.vocabulary)


class TrainedModel(NamedTuple):
    """Parameters, and what is needed to use them."""

    params: Params
    config: ModelConfig
    vocabulary: Vocabulary


def save_checkpoint(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write the file, in place of an earlier one: a reader finds the one or the other, never a part.

    That holds through a kill or a loss of power too. A kill can leave a hidden temporary file beside it.

    Raises:
        UserError: the file can't be written there.
    """
    state, best = checkpoint.state, checkpoint.best
    tensors = flatten(state.params)
    tensors |= {_AVERAGE + name: leaf for name, leaf in flatten(state.average).items()}
    tensors |= {_BEST + name: leaf for name, leaf in flatten(best.params).items()}
    leaves = zip(state_names(state.opt_state), jax.tree.leaves(state.opt_state), strict=True)
    tensors |= {_OPTIMIZER + name: leaf for name, leaf in leaves}
    tensors[_RNG] = jax.random.key_data(state.key)
    meta = {
        "format_version": FORMAT_VERSION,
        "epoch": state.epoch,
        "step": state.step,
        "rng": str(jax.random.key_impl(state.key)),
        "best": {"epoch": best.epoch, "scores": best.scores},
        **{name: dataclasses.asdict(getattr(checkpoint, name)) for name in _RECORDS},
        **{name: getattr(checkpoint, name) for name in _PLAIN},
    }
    text = json.dumps(meta, allow_nan=False)
    content = safetensors.numpy.save(
        {name: np.array(leaf, order="C") for name, leaf in tensors.items()},
        {_META: text, _DIGEST: _UNSIGNED},
    )
    signed = _signed(content, _UNSIGNED, hashlib.sha256(content).hexdigest())
    write_whole(path, signed, "checkpoint")


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read and check a file of ``save_checkpoint``.

    Raises:
        UserError: there is no such file, it is damaged, isn't a checkpoint or is one of another version.
    """
    meta, tensors = _read(Path(path))
    config: ModelConfig = _record(path, "config", ModelConfig, meta)
    recipe: Recipe = _record(path, "recipe", Recipe, meta)
    data: TrainingData = _record(path, "data", TrainingData, meta)

    def initial() -> tuple[Params, Any]:
        params = init_params(jax.random.key(0), config)
        return params, recipe.optax(config, data.train_sentences).init(params)

    # The shapes alone: which tensors there must be.
    like_params, like_state = jax.eval_shape(initial)
    names, like = [*flatten(like_params)], [*flatten(like_params).values()]
    params, average, best = (
        unflatten(_named(path, tensors, names, like, before)) for before in ("", _AVERAGE, _BEST)
    )
    of_state = state_names(like_state)
    leaves = _named(path, tensors, of_state, jax.tree.leaves(like_state), _OPTIMIZER)
    opt_state = jax.tree.unflatten(jax.tree.structure(like_state), leaves.values())
    key = jax.random.wrap_key_data(jnp.asarray(tensors[_RNG]), impl=meta["rng"])
    return Checkpoint(
        TrainState(params, average, opt_state, key, meta["epoch"], meta["step"]),
        Best(best, meta["best"]["epoch"], meta["best"]["scores"]),
        config=config,
        recipe=recipe,
        data=data,
        vocabulary=_record(path, "vocabulary", Vocabulary, meta),
        **{name: meta[name] for name in _PLAIN},
    )


def load_params(path: str | Path, *, best: bool = False) -> TrainedModel:
    """A trained model, as ``Checkpoint.trained`` has it.

    Raises:
        UserError: as ``read_checkpoint``.
    """
    return read_checkpoint(path).trained(best=best)


def check_same(path: str | Path, what: str, expected: Any, found: Any) -> None:
    """Compares two records of one kind (both a ModelConfig, a Recipe, a TrainingData), field by field.

    Where the data was found and under which name may differ; its digest may not.

    Raises:
        UserError: names the first field that differs, as the checkpoint ``path`` has it and as asked for.
    """
    for field in dataclasses.fields(expected):
        of_checkpoint, asked = getattr(expected, field.name), getattr(found, field.name)
        if of_checkpoint != asked and field.name not in ("given", "name"):
            remedy = "leave the option out, or train anew"
            if field.name == "digest":  # no option need have been given: the data may have changed
                remedy = "point --data or $TTJAX_DATA at the data it was trained on, or train anew"
            raise UserError(
                f"{path}: {what}: expected {field.name} {_shown(of_checkpoint)} as in the checkpoint, found"
                f" {_shown(asked)}: {remedy}"
            )


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def _record(path: str | Path, name: str, kind: type[Any], meta: dict[str, Any]) -> Any:
    """The inverse of ``dataclasses.asdict``; a field that an older version didn't write is that of ABSENT.

    Raises:
        UserError: there is another field, or one is missing that ABSENT lacks.
    """
    known = [field.name for field in dataclasses.fields(kind)]
    found = {**ABSENT.get(name, {}), **meta[name]}
    odd = [field for field in found if field not in known]
    odd += [f"no {field}" for field in known if field not in found]
    if odd:
        raise UserError(
            f"{path}: {name}: expected fields of {', '.join(known)}, found {odd[0]}: read it with the"
            " version of ttjax that wrote it"
        )
    return kind(**fields_of_json(found))


def _named(
    path: str | Path, tensors: dict[str, np.ndarray], names: list[str], like: list[Any], before: str = ""
) -> dict[str, Any]:
    """Leaves by name as JAX arrays; each must have the shape and dtype of its one in ``like``."""
    for name, leaf in zip(names, like, strict=True):
        found = tensors.get(before + name)
        if found is None or found.shape != leaf.shape or found.dtype != leaf.dtype:
            shown = "none" if found is None else f"{found.dtype} {found.shape}"
            raise UserError(
                f"{path}: expected a tensor {before}{name}, {leaf.dtype} {leaf.shape}, found {shown}: it was"
                " written by another version of ttjax or optax: train anew"
            )
    # A copy: JAX may share the memory of an aligned numpy array, which is not its own to donate.
    return {name: jnp.array(tensors[before + name], copy=True) for name in names}


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Our metadata and the tensors of a file that is whole and ours."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: expected a checkpoint, can't read it ({error.strerror}): check the path, or make one"
            " with `ttjax train --checkpoint`"
        ) from error
    header, size = _header(path, content)
    meta = header.get("__metadata__")
    if not (isinstance(meta, dict) and {_META, _DIGEST} <= meta.keys()):
        raise UserError(
            f"{path}: expected a checkpoint of `ttjax train`, found a safetensors file without its metadata:"
            " choose another file"
        )
    if len(content) != size:
        raise UserError(
            f"{path}: expected {size} bytes as its header says, found {len(content)}: the file is cut off or"
            " damaged: take a copy of it, or train anew"
        )
    ours = _json(meta[_META])
    version = ours.get("format_version") if isinstance(ours, dict) else None
    # Before the digest, which another version may make in another way.
    if version != FORMAT_VERSION:
        raise UserError(
            f"{path}: expected checkpoint format {FORMAT_VERSION}, found {version}: read it with the version"
            " of ttjax that wrote it, or train anew"
        )
    signed = meta[_DIGEST]
    found = hashlib.sha256(_signed(content, signed, _UNSIGNED)).hexdigest()
    if found != signed:
        raise UserError(
            f"{path}: expected sha256 {signed}, found {found}: the file is damaged: take a copy of it, or"
            " train anew"
        )
    return cast(dict[str, Any], ours), safetensors.numpy.load(content)


def _header(path: Path, content: bytes) -> tuple[dict[str, Any], int]:
    """A safetensors file's header, and how many bytes long the file should be."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = _json(content[8:start]) if 8 < start <= len(content) else None
    if not isinstance(header, dict):
        raise UserError(
            f"{path}: expected a safetensors file, found no header of one: it is damaged, cut off or"
            " something else: choose another file, or train anew"
        )
    try:
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        return header, start + max(ends, default=0)
    except (TypeError, KeyError, IndexError) as error:
        raise UserError(
            f"{path}: expected a safetensors file, found a header that describes no tensors: it is damaged:"
            " take a copy of it, or train anew"
        ) from error


def _json(text: Any) -> Any:
    """The value, or None where it isn't JSON."""
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return None


def _signed(content: bytes, old: str, new: str) -> bytes:
    """The file with another digest in its header.

    Within the JSON of our metadata quotes are escaped, so that this text can't occur there.
    """
    # Foreign text may hold what UTF-8 can't.
    field = f'"{_DIGEST}":"{old}"'.encode(errors="replace")
    return content.replace(field, f'"{_DIGEST}":"{new}"'.encode(), 1)
