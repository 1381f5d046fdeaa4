"""The memory map: every element of every parameter to (bank, word, lane) of the on-chip memory.

Tensors of one kind and position share a bank across all layers (all first cores in one, all biases in one),
one after the other in order of execution. Packing follows it, both ways.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from math import prod

import numpy as np
from jaxtyping import Float32, Int64, UInt32

from ttjax import ModelConfig, Params, UserError, flatten, unflatten
from ttjax.params import check_params, linear_names, norm_names, parameter_shapes

# Lanes of a word are consecutive elements of a row, at most this many.
MAX_LANES = 16
HASH_WORDS = 8


@dataclass(frozen=True)
class Placement:
    """Where one parameter lies: from element ``start`` of its bank on, axes permuted to ``axes``.

    row: elements of one row of the matrix that the tensor is to a contraction. pitch: distance of rows; what
    lies between a row's end and the next row is padding.
    """

    name: str
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    bank: int
    start: int
    row: int
    pitch: int

    @property
    def size(self) -> int:
        """Elements of the bank that it takes, padding included."""
        return prod(self.shape) // self.row * self.pitch

    def spread(self, tensor: np.ndarray, padding: object = 0) -> np.ndarray:
        """The tensor's elements as they lie in the bank: flat, ``size`` of them, ``padding`` between rows."""
        rows = tensor.transpose(self.axes).reshape(-1, self.row)
        spread = np.full((len(rows), self.pitch), padding, tensor.dtype)
        spread[:, : self.row] = rows
        return spread.reshape(-1)

    def gather(self, elements: np.ndarray) -> np.ndarray:
        """The tensor (a copy) of its elements as they lie in the bank."""
        rows = elements.reshape(-1, self.pitch)[:, : self.row]
        on_chip = rows.reshape([self.shape[a] for a in self.axes])
        return on_chip.transpose(np.argsort(self.axes)).copy()


@dataclass(frozen=True)
class Bank:
    """One on-chip array: ``words`` words of ``lanes`` float32; ``offset`` is where it begins in the image."""

    name: str
    lanes: int
    words: int
    offset: int

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.words * self.lanes


@dataclass(frozen=True)
class Layout:
    """The map of one config. The image is a kernel's hash (8 words), then the banks one after the other."""

    config: ModelConfig
    banks: tuple[Bank, ...]
    placements: tuple[Placement, ...]

    @cached_property
    def hash(self) -> UInt32[np.ndarray, " 8"]:
        """SHA-256 of the config and the map, which is a part of the kernel's (``kernel_hash``)."""
        content = json.dumps(
            [asdict(self.config), [asdict(b) for b in self.banks], [asdict(p) for p in self.placements]],
            sort_keys=True,
        )
        return np.frombuffer(hashlib.sha256(content.encode()).digest(), np.uint32)

    @property
    def image_words(self) -> int:
        """Length of the image in 32-bit words, the hash included."""
        return HASH_WORDS + self.size

    @property
    def size(self) -> int:
        """Elements of all banks."""
        return sum(bank.size for bank in self.banks)

    def pack(self, params: Params, kernel: UInt32[np.ndarray, " 8"]) -> UInt32[np.ndarray, " words"]:
        """The memory image of float32 parameters for the kernel of that hash.

        Raises:
            UserError: a parameter is missing, unknown, misshapen or not float32.
        """
        check_params(params, self.config)
        leaves = {name: np.asarray(leaf) for name, leaf in flatten(params).items()}
        for name, leaf in leaves.items():
            if leaf.dtype != np.float32:
                raise UserError(f"pack: {name} expected float32, found {leaf.dtype}")
        image = np.empty(self.image_words, np.uint32)
        image[:HASH_WORDS] = kernel
        elements = image[HASH_WORDS:].view(np.float32)
        for p in self.placements:
            at = self.banks[p.bank].offset - HASH_WORDS + p.start
            elements[at : at + p.size] = p.spread(leaves[p.name])
        return image

    def unpack(self, image: UInt32[np.ndarray, " words"], kernel: UInt32[np.ndarray, " 8"]) -> Params:
        """Parameters (copies, float32) of a memory image of the kernel of that hash.

        Raises:
            UserError: the image has another length, or is another kernel's.
        """
        if image.shape != (self.image_words,):
            raise UserError(f"unpack: expected an image of {self.image_words} words, found {image.shape}")
        if not np.array_equal(image[:HASH_WORDS], kernel):
            raise UserError("unpack: the image was packed for another kernel; pack it again")
        return unflatten(self.split(image[HASH_WORDS:].view(np.float32)))

    def split(self, elements: Float32[np.ndarray, " size"]) -> dict[str, Float32[np.ndarray, "..."]]:
        """Tensors by parameter name (copies) of a run of elements that lie as in the banks."""
        tensors = {}
        for p in self.placements:
            at = self.banks[p.bank].offset - HASH_WORDS + p.start
            tensors[p.name] = p.gather(elements[at : at + p.size])
        return tensors

    def address(self, name: str) -> Int64[np.ndarray, "... 3"]:
        """(bank, word, lane) of each element of a parameter, as an array of its shape with a last axis of 3.

        Raises:
            KeyError: no parameter has that name.
        """
        p = self.placement(name)
        element = p.gather(np.arange(p.start, p.start + p.size))
        lanes = self.banks[p.bank].lanes
        return np.stack([np.full_like(element, p.bank), element // lanes, element % lanes], axis=-1)

    @cached_property
    def _by_name(self) -> dict[str, Placement]:
        return {p.name: p for p in self.placements}

    def placement(self, name: str) -> Placement:
        """Where a parameter lies.

        Raises:
            KeyError: no parameter has that name.
        """
        return self._by_name[name]


@lru_cache(maxsize=64)
def make_layout(config: ModelConfig) -> Layout:
    """The map for a config.

    Raises:
        UserError: the config is not a tensor-train one (the kernel has no plain matrices).
    """
    if config.format != "tt":
        raise UserError(
            "the kernel is tensor-train only: expected format 'tt', found 'dense': leave --format out"
        )
    shapes = parameter_shapes(config)
    banks: list[Bank] = []
    placements: list[Placement] = []
    offset = HASH_WORDS
    for bank_name, names in _groups(config).items():
        axes = _axes(bank_name, len(shapes[names[0]]))
        row = _row(bank_name, shapes[names[0]], config)
        pitch, start = pitch_of(row), 0
        for name in names:
            placements.append(Placement(name, shapes[name], axes, len(banks), start, row, pitch))
            start += placements[-1].size
        # What a digit of a TTM core picks begins at a word, and so does every tensor.
        digits = shapes[names[0]][1] if bank_name.startswith("embed_core") else 1
        lanes = lanes_of(placements[-1].size // digits)
        banks.append(Bank(bank_name, lanes, start // lanes, offset))
        offset += start
    if nowhere := shapes.keys() - {placement.name for placement in placements}:
        raise AssertionError(f"parameters of no bank: {sorted(nowhere)}")
    return Layout(config, tuple(banks), tuple(placements))


def _groups(config: ModelConfig) -> dict[str, list[str]]:
    """Parameters by bank, in order of execution."""
    linears = linear_names(config)
    norms = norm_names(config)
    n_cores = len(config.in_modes) + len(config.out_modes)
    return {
        **{f"linear_core{k}": _of(linears, f"core{k}") for k in range(n_cores)},
        "linear_bias": _of(linears, "bias"),
        **{f"embed_core{k}": [f"embed.core{k}"] for k in range(len(config.vocab_modes))},
        "position": ["embed.position"],
        "norm_scale": _of(norms, "scale"),
        "norm_bias": _of(norms, "bias"),
        "intent_weight": ["intent_out.weight"],
        "intent_bias": ["intent_out.bias"],
        "slot_weight": ["slot_out.weight"],
        "slot_bias": ["slot_out.bias"],
    }


def _of(layers: Iterable[str], part: str) -> list[str]:
    return [f"{layer}.{part}" for layer in layers]


def _axes(bank: str, n_axes: int) -> tuple[int, ...]:
    """On-chip order of a tensor's axes.

    A TTM core keeps its row digit outermost: a token reads one digit's slice, and a contraction wants it
    contiguous. A classifier keeps its classes outermost: their number fits no word, the width does.
    """
    if bank.startswith("embed_core"):
        return (1, 0, 2, 3)
    return (1, 0) if bank.endswith("_weight") else tuple(range(n_axes))


def _row(bank: str, shape: tuple[int, ...], config: ModelConfig) -> int:
    """Elements of one row of the matrix that a contraction reads from a tensor of this bank.

    Merged from the left, a core is (r, n r') but the first, which is (n, r'); from the right it is (r n, r')
    but the last, which is (r, n). A classifier's rows lie along the width.
    """
    if "core" in bank:
        k = int(bank.rpartition("core")[2])
        mode, after = shape[-2], shape[-1]
        linear = bank.startswith("linear")
        from_left = linear and 0 < k < len(config.in_modes)
        last = k == (len(config.tt_ranks if linear else config.ttm_ranks) - 2)
        return mode * after if from_left or last else after
    return shape[0] if bank.endswith("_weight") else shape[-1]


def pitch_of(row: int) -> int:
    """Distance of rows of that length: one longer than a word begins at a word."""
    return row if row <= MAX_LANES else -(-row // MAX_LANES) * MAX_LANES


def lanes_of(elements: int) -> int:
    """Float32 elements of a word if that many must fill whole words: the widest divisor, up to MAX_LANES."""
    return max(d for d in range(1, MAX_LANES + 1) if elements % d == 0)
