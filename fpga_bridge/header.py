"""The generated header: every dimension, bank, place and trace offset the kernel knows, from the config.

It declares the on-chip arrays as ``memory_map`` lays them out, with the pragmas that bind them to memories.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from fpga_bridge.banks import SLOT_MEMORIES, WORD_BITS, bank_shapes
from fpga_bridge.layout import HASH_WORDS, MAX_LANES, Bank
from fpga_bridge.lifetimes import BLOCK_ARRAYS
from fpga_bridge.manifest import Manifest, tap_offsets
from fpga_bridge.memory_map import MemoryMap, make_memory_map
from ttjax.params import linear_names, norm_names

HEADER_NAME = "ttfpga_config.hpp"

FIRST_BANKS = {
    "kLinearCoreBank": "linear_core0",
    "kLinearBiasBank": "linear_bias",
    "kEmbedCoreBank": "embed_core0",
    "kPositionBank": "position",
    "kNormScaleBank": "norm_scale",
    "kNormBiasBank": "norm_bias",
    "kIntentWeightBank": "intent_weight",
    "kIntentBiasBank": "intent_bias",
    "kSlotWeightBank": "slot_weight",
    "kSlotBiasBank": "slot_bias",
}


def header(manifest: Manifest) -> str:
    """Text of ``ttfpga_config.hpp`` for the memory map and the trace manifest of one config."""
    memory = make_memory_map(manifest.layout.config)
    lines = [
        "// Generated from the ModelConfig by fpga_bridge.header: change the config, not this file.",
        "#pragma once",
        "",
        "#include <cstdint>",
        "",
        "namespace ttfpga {",
        "",
        *_dimensions(memory),
        "",
        *_banks(memory),
        "",
        *_pools(memory),
        "",
        *_gradients(memory),
        "",
        *_places(memory),
        "",
        "// Where each trace point begins in the trace buffer, by layer, block or norm.",
        "namespace trace {",
        *(_array(family, offsets) for family, offsets in tap_offsets(manifest).items()),
        "// Gradients and updated parameters lie as the banks do in the image.",
        _int("kGradients", manifest.gradients_offset - HASH_WORDS),
        _int("kUpdated", manifest.updated_offset - HASH_WORDS),
        _int("kWords", manifest.words),
        "}  // namespace trace",
        "",
        "}  // namespace ttfpga",
        "",
        "// Binds the arrays above to memories; stands at the beginning of the top function.",
        f"#define TTFPGA_BIND_MEMORY {_pragmas(memory)}",
        "",
    ]
    return "\n".join(lines)


def _dimensions(memory: MemoryMap) -> Iterator[str]:
    config, n_in = memory.config, len(memory.config.in_modes)
    yield "// Digest of the configuration and the memory map; an image packed for another one is refused."
    yield _int("kHashWords", HASH_WORDS)
    yield _array("kLayoutHash", (f"{word:#010x}u" for word in memory.layout.hash), "uint32_t")
    yield ""
    yield _int("kTokens", config.seq_len)
    yield _int("kWidth", config.d_model)
    yield _int("kHeads", config.n_heads)
    yield _int("kBlocks", config.n_blocks)
    yield _int("kLinears", len(linear_names(config)))
    yield _int("kNorms", len(norm_names(config)))
    yield _int("kIntents", config.n_intents)
    yield _int("kSlots", config.n_slots)
    yield _float("kNormEps", config.norm_eps)
    yield _float("kSlotLossWeight", config.slot_weight)
    yield ""
    yield "// Tensor-train shapes: input cores, output cores, embedding cores."
    yield _int("kInCores", n_in)
    yield _array("kInModes", config.in_modes)
    yield _array("kInRanks", config.tt_ranks[: n_in + 1])
    yield _int("kOutCores", len(config.out_modes))
    yield _array("kOutModes", config.out_modes)
    yield _array("kOutRanks", config.tt_ranks[n_in:])
    yield _int("kEmbedCores", len(config.vocab_modes))
    yield _array("kVocabModes", config.vocab_modes)
    yield _array("kEmbedModes", config.embed_modes)
    yield _array("kEmbedRanks", config.ttm_ranks)
    yield ""
    yield "// What a step keeps, makes again, and trains."
    recompute = (b in config.recompute for b in range(config.n_blocks))
    yield _array("kRecompute", map(_truth, recompute), "bool")
    yield f"constexpr bool kRederive = {_truth(config.rederive)};"
    yield f"constexpr bool kImmediate = {_truth(config.immediate)};"
    trains = {name: _truth(name not in config.frozen) for name in config.layers}
    yield _array("kLinearTrains", (trains[name] for name in linear_names(config)), "bool")
    yield _array("kNormTrains", (trains[name] for name in norm_names(config)), "bool")
    for constant, layer in (("kEmbed", "embed"), ("kIntentOut", "intent_out"), ("kSlotOut", "slot_out")):
        yield f"constexpr bool {constant}Trains = {trains[layer]};"


def _banks(memory: MemoryMap) -> Iterator[str]:
    layout = memory.layout
    yield "// Banks of parameters: elements of each, and where it begins in the image."
    yield _int("kBanks", len(layout.banks))
    for constant, name in FIRST_BANKS.items():
        yield _int(constant, layout.bank_index(name))
    yield _array("kBankSize", (bank.size for bank in layout.banks))
    yield _array("kBankOffset", (bank.offset for bank in layout.banks))
    yield _int("kImageWords", layout.image_words)
    yield from (f"static float {bank.name}[{bank.size}];" for bank in layout.banks)
    yield "template <int kIndex>"
    yield "struct Bank;"
    for i, bank in enumerate(layout.banks):
        yield f"template <>\nstruct Bank<{i}> {{"
        yield f"  static float (&value())[{bank.size}] {{ return {bank.name}; }}\n}};"


def _pools(memory: MemoryMap) -> Iterator[str]:
    yield "// Most float32 elements of one memory word: what a port moves in a cycle."
    yield _int("kWordLanes", MAX_LANES)
    yield "// Pools of temporary arrays in equal slots, and small arrays with a memory of their own."
    for pool, slot in memory.slot_size.items():
        yield _int(f"k{pool.capitalize()}Slot", slot)
        yield _int(f"k{pool.capitalize()}Pool", slot * memory.slots[pool])
        yield f"static float {pool}[k{pool.capitalize()}Pool];"
    for array in memory.fixed:
        yield f"static float {array.name}[{array.size}];"


def _gradients(memory: MemoryMap) -> Iterator[str]:
    """Where the gradient of each bank goes: ``memory``, and the element of it for element ``start``."""
    yield "// Where a bank's gradient goes: held in a bank of its own, or applied at once from scratch."
    yield "template <int kIndex>"
    yield "struct Gradient;"
    for i, bank in enumerate(memory.layout.banks):
        array, size, at = _gradient_home(memory, bank)
        if not memory.config.immediate:
            yield f"static float {array}[{size}];"
        yield f"template <>\nstruct Gradient<{i}> {{"
        yield f"  static float (&memory())[{size}] {{ return {array}; }}"
        yield f"  static constexpr int at(int{' start' if 'start' in at else ''}) {{ return {at}; }}\n}};"


def _gradient_home(memory: MemoryMap, bank: Bank) -> tuple[str, int, str]:
    """Array, its size, and the expression for the place of element ``start``."""
    config = memory.config
    if not config.immediate:
        return f"{bank.name}_gradient", bank.size, "start"
    sizes = {b.name: b.size for b in memory.layout.banks}
    if bank.name.startswith(("linear", "norm")):
        if bank.name.startswith("linear"):
            # One layer's cores one after the other, then its bias: all are complete before any is applied.
            names = [name for name in sizes if name.startswith("linear")]
            before = sum(sizes[name] for name in names[: names.index(bank.name)])
            at = before // len(linear_names(config))
        else:
            at = 0 if bank.name == "norm_scale" else config.d_model
        return "layer_gradient", memory.fixed_size("layer_gradient"), str(at)
    pool_size = memory.slots["activation"] * memory.slot_size["activation"]
    if bank.name == "position":
        # The gradient of a position is that of its embedding.
        at = memory.offset("d_branch")
    elif bank.name.startswith("embed"):
        before = (sizes[f"embed_core{k}"] for k in range(int(bank.name.removeprefix("embed_core"))))
        at = memory.offset("embed_gradient") + sum(before)
    else:
        head, _, part = bank.name.partition("_")
        at = memory.offset(f"{head}_gradient") + (sizes[f"{head}_weight"] if part == "bias" else 0)
    return "activation", pool_size, f"{at} + start"


def _places(memory: MemoryMap) -> Iterator[str]:
    config = memory.config
    blocks, linears = range(config.n_blocks), range(len(linear_names(config)))
    yield "// Where each array begins in its pool; [pass][block, layer or norm] where the passes may differ."
    yield "namespace place {"
    yield _array("hidden", (memory.offset("hidden", b) for b in range(config.n_blocks + 1)))
    for name in BLOCK_ARRAYS:
        if not name.startswith("unit"):
            yield _table(name, ([memory.offset(name, b, p) for b in blocks] for p in (0, 1)))
    yield _table(
        "unit", ([memory.offset(*of_norm, p) for of_norm in _units(config.n_blocks)] for p in (0, 1))
    )
    for pool in ("left", "right", "bond"):
        yield _table(pool, ([memory.offset(pool, layer, p) for layer in linears] for p in (0, 1)))
    for name in (
        "embedding",
        "row_products",
        "branch",
        "slot_hidden",
        "slot_active",
        "slot_normed",
        "slot_logits",
    ):
        yield _int(name, memory.offset(name))
    for name in (
        "stream",
        "branch",
        "wide",
        "query",
        "key",
        "value",
        "scores",
        "slot_logits",
        "row_products",
    ):
        yield _int(f"d_{name}", memory.offset(f"d_{name}"))
    yield "}  // namespace place"


def _units(n_blocks: int) -> list[tuple[str, int]]:
    """Name and index of each norm's normalised values, in the norms' order."""
    of_blocks = [(f"unit{i}", b) for b in range(n_blocks) for i in (1, 2)]
    return [("embed_unit", 0), *of_blocks, ("slot_unit", 0)]


def _pragmas(memory: MemoryMap) -> str:
    """Each array reshaped to words of its lanes and bound to its kind of memory; pools a memory a slot."""
    lines = []
    for pool in SLOT_MEMORIES:
        if memory.slots[pool] > 1:
            lines.append(f"HLS ARRAY_PARTITION variable={pool} block factor={memory.slots[pool]}")
    arrays = {shape.name.partition("[")[0]: shape for shape in bank_shapes(memory)}
    for name, shape in arrays.items():
        lines.append(f"HLS ARRAY_RESHAPE variable={name} cyclic factor={shape.width // WORD_BITS}")
        lines.append(f"HLS BIND_STORAGE variable={name} type=RAM_2P impl={shape.kind.upper()}")
    return " ".join(f'_Pragma("{line}")' for line in lines)


def _truth(value: bool) -> str:
    return "true" if value else "false"


def _int(name: str, value: int) -> str:
    return f"constexpr int {name} = {value};"


def _float(name: str, value: float) -> str:
    # Nine significant digits name a float32 uniquely.
    return f"constexpr float {name} = {np.float32(value):.9e}f;"


def _array(name: str, values: Iterable[object], type_name: str = "int") -> str:
    return f"constexpr {type_name} {name}[] = {{{', '.join(map(str, values))}}};"


def _table(name: str, rows: Iterable[list[int]]) -> str:
    lists = [", ".join(map(str, row)) for row in rows]
    columns = lists[0].count(",") + 1
    return f"constexpr int {name}[][{columns}] = {{{', '.join(f'{{{row}}}' for row in lists)}}};"
