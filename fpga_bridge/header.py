"""The generated header: every dimension, bank and trace offset the kernel knows, from the config alone."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from fpga_bridge.layout import HASH_WORDS
from fpga_bridge.manifest import Manifest, tap_offsets

HEADER_NAME = "ttfpga_config.hpp"


def header(manifest: Manifest) -> str:
    """Text of ``ttfpga_config.hpp`` for a config's layout and trace manifest."""
    layout, config = manifest.layout, manifest.layout.config
    n_in = len(config.in_modes)
    first_banks = {
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
    lines = [
        "// Generated from the ModelConfig by fpga_bridge.header: change the config, not this file.",
        "#pragma once",
        "",
        "#include <cstdint>",
        "",
        "namespace ttfpga {",
        "",
        "// Digest of the configuration and the memory map; an image packed for another one is refused.",
        f"constexpr int kHashWords = {HASH_WORDS};",
        _array("kLayoutHash", (f"{word:#010x}u" for word in layout.hash), "uint32_t"),
        "",
        _int("kTokens", config.seq_len),
        _int("kWidth", config.d_model),
        _int("kHeads", config.n_heads),
        _int("kBlocks", config.n_blocks),
        _int("kIntents", config.n_intents),
        _int("kSlots", config.n_slots),
        _float("kNormEps", config.norm_eps),
        _float("kSlotLossWeight", config.slot_weight),
        "",
        "// Tensor-train shapes: input cores, output cores, embedding cores.",
        _int("kInCores", n_in),
        _array("kInModes", config.in_modes),
        _array("kInRanks", config.tt_ranks[: n_in + 1]),
        _int("kOutCores", len(config.out_modes)),
        _array("kOutModes", config.out_modes),
        _array("kOutRanks", config.tt_ranks[n_in:]),
        _int("kEmbedCores", len(config.vocab_modes)),
        _array("kVocabModes", config.vocab_modes),
        _array("kEmbedModes", config.embed_modes),
        _array("kEmbedRanks", config.ttm_ranks),
        "",
        "// Banks of parameters: elements of each, and where it begins in the image.",
        _int("kBanks", len(layout.banks)),
        *(_int(constant, layout.bank_index(name)) for constant, name in first_banks.items()),
        _array("kBankSize", (bank.size for bank in layout.banks)),
        _array("kBankOffset", (bank.offset for bank in layout.banks)),
        _int("kImageWords", layout.image_words),
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
    ]
    return "\n".join(lines)


def _int(name: str, value: int) -> str:
    return f"constexpr int {name} = {value};"


def _float(name: str, value: float) -> str:
    # Nine significant digits name a float32 uniquely.
    return f"constexpr float {name} = {np.float32(value):.9e}f;"


def _array(name: str, values: Iterable[object], type_name: str = "int") -> str:
    return f"constexpr {type_name} {name}[] = {{{', '.join(map(str, values))}}};"
