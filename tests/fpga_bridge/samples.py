"""What the bridge's tests run on: configs, random parameters and sentences, and comparisons of bits.

Parameters come from numpy: ``init_params`` would cost each config seconds of compilation.
"""

from __future__ import annotations

from math import prod

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from numpy.typing import ArrayLike

from fpga_bridge.agreement.criterion import Comparison, Criterion, compare_step
from fpga_bridge.device import Device, Trace
from fpga_bridge.devices.csim import CsimDevice
from fpga_bridge.devices.reference import JaxDevice
from fpga_bridge.program.manifest import TracePoint
from ttjax import Batch, ModelConfig, Params, flatten, preset, unflatten
from ttjax.params import parameter_shapes

TINY = preset("tiny")
RATE = 1e-2

# Configs unlike the presets, each odd in its own way; what is odd stands in the name.
OTHER_CONFIGS = {
    "two_cores_a_side": ModelConfig(
        seq_len=4,
        d_model=6,
        n_heads=1,
        n_blocks=1,
        vocab_size=12,
        n_intents=2,
        n_slots=3,
        in_modes=(2, 3),
        out_modes=(3, 2),
        tt_ranks=(1, 3, 2, 5, 1),
        vocab_modes=(3, 4),
        embed_modes=(2, 3),
        ttm_ranks=(1, 2, 1),
    ),
    "rank_1_everywhere_and_one_word": ModelConfig(
        seq_len=2,
        d_model=12,
        n_heads=2,
        n_blocks=1,
        vocab_size=30,
        n_intents=3,
        n_slots=4,
        in_modes=(3, 2, 2),
        out_modes=(2, 2, 3),
        tt_ranks=(1, 1, 1, 1, 1, 1, 1),
        vocab_modes=(2, 3, 5),
        embed_modes=(3, 2, 2),
        ttm_ranks=(1, 1, 1, 1),
    ),
    "modes_of_1_and_uneven_ranks": ModelConfig(
        seq_len=5,
        d_model=10,
        n_heads=5,
        n_blocks=2,
        vocab_size=21,
        n_intents=4,
        n_slots=2,
        in_modes=(2, 5),
        out_modes=(5, 1, 2),
        tt_ranks=(1, 4, 2, 7, 3, 1),
        vocab_modes=(7, 1, 3),
        embed_modes=(5, 1, 2),
        ttm_ranks=(1, 6, 1, 1),
    ),
    "head_width_1_and_a_single_intent": ModelConfig(
        seq_len=3,
        d_model=8,
        n_heads=8,
        n_blocks=3,
        vocab_size=16,
        n_intents=1,
        n_slots=5,
        in_modes=(4, 2),
        out_modes=(2, 2, 2),
        tt_ranks=(1, 2, 9, 2, 4, 1),
        vocab_modes=(4, 4),
        embed_modes=(2, 4),
        ttm_ranks=(1, 5, 1),
    ),
    "width_with_a_prime_factor_above_all_lanes": ModelConfig(
        seq_len=7,
        d_model=134,
        n_heads=2,
        n_blocks=1,
        vocab_size=35,
        n_intents=7,
        n_slots=13,
        in_modes=(67, 2),
        out_modes=(2, 67),
        tt_ranks=(1, 3, 17, 2, 1),
        vocab_modes=(5, 7),
        embed_modes=(67, 2),
        ttm_ranks=(1, 3, 1),
        norm_eps=1.2345678e-3,
        slot_weight=0.7654321,
    ),
}


@st.composite
def configs(draw: DrawFn) -> ModelConfig:
    """Tensor-train configs of any small shape."""
    in_modes, out_modes, embed_modes = draw(st.permutations([2, 3, 2])), [4, 3], draw(_splits_of_12)
    vocab_modes = draw(st.lists(st.integers(1, 6), min_size=len(embed_modes), max_size=len(embed_modes)))
    if draw(st.booleans()):
        in_modes, out_modes = out_modes, in_modes
    return ModelConfig(
        seq_len=draw(st.integers(2, 6)),
        d_model=12,
        n_heads=draw(st.sampled_from([1, 2, 3, 4, 6, 12])),
        n_blocks=draw(st.integers(1, 3)),
        vocab_size=prod(vocab_modes),
        n_intents=draw(st.integers(1, 20)),
        n_slots=draw(st.integers(1, 40)),
        in_modes=tuple(in_modes),
        out_modes=tuple(out_modes),
        tt_ranks=draw(_ranks(len(in_modes) + len(out_modes))),
        vocab_modes=tuple(vocab_modes),
        embed_modes=tuple(embed_modes),
        ttm_ranks=draw(_ranks(len(vocab_modes))),
    )


_splits_of_12 = st.sampled_from([(12, 1), (3, 4), (2, 3, 2), (1, 12), (2, 1, 6), (2, 2, 3, 1)])


def _ranks(n_cores: int) -> st.SearchStrategy[tuple[int, ...]]:
    interior = st.lists(st.integers(1, 17), min_size=n_cores - 1, max_size=n_cores - 1)
    return interior.map(lambda ranks: (1, *ranks, 1))


@st.composite
def memory_configs(draw: DrawFn) -> ModelConfig:
    """Small configs with any choice of what is kept, made again, applied at once and frozen."""
    config = draw(configs()).replace(n_blocks=draw(st.integers(1, 4)))
    return config.replace(
        recompute=tuple(sorted(draw(st.sets(st.integers(0, config.n_blocks - 1))))),
        rederive=draw(st.booleans()),
        immediate=draw(st.booleans()),
        frozen=tuple(draw(st.lists(st.sampled_from(config.layers), unique=True))),
    )


def random_params(config: ModelConfig, seed: int = 0) -> Params:
    """Parameters with no zero and no one among them, of a size that training could reach."""
    rng = np.random.default_rng(seed)

    def leaf(name: str, shape: tuple[int, ...]) -> np.ndarray:
        x = rng.standard_normal(shape)
        layer, _, part = name.rpartition(".")
        if part.startswith("core"):
            ranks = config.ttm_ranks if layer == "embed" else config.tt_ranks
            product_std = 0.3 if layer == "embed" else config.d_model**-0.5
            return x * (product_std / prod(ranks) ** 0.5) ** (1 / (len(ranks) - 1))
        if part == "weight":
            return x * config.d_model**-0.5
        return (1.0 if part == "scale" else 0.0) + 0.2 * x

    shapes = parameter_shapes(config)
    return unflatten({name: leaf(name, shape).astype(np.float32) for name, shape in shapes.items()})


def random_bits(config: ModelConfig, seed: int) -> Params:
    """Parameters of arbitrary bits: NaNs with payloads, infinities and denormals among them."""
    rng = np.random.default_rng(seed)
    special = np.array([0x7F800001, 0xFFC12345, 0xFFFFFFFF, 0x7F800000, 0x80000000, 1, 0x807FFFFF], np.uint32)

    def leaf(shape: tuple[int, ...]) -> np.ndarray:
        bits = rng.integers(0, 2**32, shape, np.uint32)
        return np.where(rng.random(shape) < 0.5, rng.choice(special, shape), bits).view(np.float32)

    return unflatten({name: leaf(shape) for name, shape in parameter_shapes(config).items()})


def sentences(config: ModelConfig, n: int, seed: int = 0, lengths: list[int] | None = None) -> Batch:
    """n random sentences (a leading axis n on each field); positions after the length hold noise too."""
    rng = np.random.default_rng(seed)

    def ids(high: int, *shape: int) -> np.ndarray:
        return rng.integers(0, high, shape).astype(np.int32)

    length = 2 + ids(config.seq_len - 1, n) if lengths is None else np.array(lengths, np.int32)
    return Batch(
        tokens=ids(config.vocab_size, n, config.seq_len),
        length=length,
        intent=ids(config.n_intents, n),
        slots=ids(config.n_slots, n, config.seq_len),
    )


def one_of(batch: Batch, n: int = 0) -> Batch:
    """Sentence n of a batch."""
    return Batch(*(np.asarray(field)[n] for field in batch))


def token_axes_of(point: str) -> tuple[int, ...]:
    """Which axes of a trace point run over the positions of the sentence, told from its name alone."""
    name = point.removeprefix("d_")
    part = name.rpartition(".")[2]
    if part in ("scores", "probs"):
        return (1, 2)
    # Merged halves are of the layer, the intent's values of [CLS].
    if part in ("left", "right") or name.endswith("loss") or name.startswith("intent_"):
        return ()
    return (0,)


def is_padding(point: TracePoint, length: int) -> np.ndarray:
    """True at the elements of a value or its gradient that stand after the sentence's end."""
    position = np.indices(point.shape)
    return np.any([position[axis] >= length for axis in token_axes_of(point.name)], axis=0)


def rates(n: int) -> np.ndarray:
    """The learning rate of n steps."""
    return np.full(n, RATE, np.float32)


def differing(a: Params, b: Params) -> list[str]:
    """Names of the parameters that differ in a bit; a NaN equals itself."""
    left, right = flatten(a), flatten(b)
    assert left.keys() == right.keys()
    return [name for name in left if not same_bits(left[name], right[name])]


def same_bits(a: ArrayLike, b: ArrayLike) -> bool:
    """Whether two float32 arrays have one shape and the same bits."""
    left, right = np.asarray(a), np.asarray(b)
    assert left.dtype == right.dtype == np.float32
    return left.shape == right.shape and left.tobytes() == right.tobytes()


class Trio:
    """A kernel, JAX in float32 and JAX in float64: one step of each from the same state, compared."""

    def __init__(self, config: ModelConfig, device: Device | None = None) -> None:
        self.device = device or CsimDevice(config)
        self.points = CsimDevice(config).manifest.points
        self.others = JaxDevice(config), JaxDevice(config, np.float64)

    def compare(self, params: Params, batch: Batch, overrides: Trace | None = None) -> dict[str, Comparison]:
        """Every trace point of one step by name, in order of execution."""
        traces = []
        for device in (self.device, *self.others):
            device.load(params)
            traces.append(device.step(batch, RATE, trace=True, overrides=overrides).trace or {})
        actual, expected, truth = traces
        compared = compare_step(
            0, self.points, actual=actual, expected=expected, truth=truth, criterion=Criterion()
        )
        return {c.name: c for c in compared}


def recomputed(config: ModelConfig) -> ModelConfig:
    """Everything made again that can be."""
    return config.replace(recompute=tuple(range(config.n_blocks)), rederive=True, immediate=True)
