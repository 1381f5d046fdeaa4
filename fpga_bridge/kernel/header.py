"""The generated header: the dimensions, on-chip arrays and program of one config's kernel.

The arrays are declared as the memory map lays them out, with the pragmas that bind them to memories.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import accumulate

import numpy as np
from jaxtyping import UInt32

from fpga_bridge.device import HEAD_WORDS, example_words, logits_per_example
from fpga_bridge.kernel.operators import OPERATORS
from fpga_bridge.memory.banks import SLOT_MEMORIES, WORD_BITS, shapes_by_array
from fpga_bridge.memory.layout import HASH_WORDS, pitch_of
from fpga_bridge.memory.memory_map import MemoryMap, make_memory_map
from fpga_bridge.program.accelerator import DEFAULT, Accelerator
from fpga_bridge.program.instructions import NONE, OPERANDS, Instruction, Operand, Program
from fpga_bridge.program.make_program import make_program, sum_depth
from fpga_bridge.program.manifest import Manifest
from fpga_bridge.program.schedule import UNITS, unit_of

HEADER_NAME = "ttfpga_config.hpp"


def header(manifest: Manifest, accelerator: Accelerator = DEFAULT, program: Program | None = None) -> str:
    """Text of ``ttfpga_config.hpp`` for one config's memory map and program on an accelerator.

    ``program`` replaces the config's own (a planted fault). The hash stays the one without the fault, or
    devices would refuse the kernel before the fault could be found.
    """
    if program is None:
        content = _own_content(manifest, accelerator)
    else:
        content = _content(manifest, accelerator, program)
    lines = [
        "// Generated from the ModelConfig by fpga_bridge.kernel.header: change the config, not this file.",
        "#pragma once",
        "",
        "#include <cstdint>",
        "",
        "namespace ttfpga {",
        "",
        "// Hash of all that follows and of the memory map; an image packed for another one is refused.",
        _int("kHashWords", HASH_WORDS),
        _array("kHash", (f"{word:#010x}u" for word in kernel_hash(manifest, accelerator)), "uint32_t"),
        "",
        content,
        "",
        "}  // namespace ttfpga",
        "",
    ]
    return "\n".join(lines)


def kernel_hash(manifest: Manifest, accelerator: Accelerator = DEFAULT) -> UInt32[np.ndarray, " 8"]:
    """What a kernel and its host must share: SHA-256 of the layout's hash and of the generated header.

    So it covers the config, the memory map, the program and the accelerator. It covers neither the C++
    sources, which planted faults change on purpose, nor what a build for the card is told beside the header:
    taps, and the files for the compiler and the linker.
    """
    content = _own_content(manifest, accelerator).encode()
    return np.frombuffer(hashlib.sha256(manifest.layout.hash.tobytes() + content).digest(), np.uint32)


def hash_text(words: UInt32[np.ndarray, " 8"]) -> str:
    """A hash as messages show it: its first 16 digits."""
    return words.tobytes().hex()[:16]


@lru_cache(maxsize=8)
def _own_content(manifest: Manifest, accelerator: Accelerator) -> str:
    """``_content`` with the config's own program."""
    return _content(manifest, accelerator, make_program(manifest, accelerator))


def _content(manifest: Manifest, accelerator: Accelerator, program: Program) -> str:
    """All that the hash covers of the header, which is all but the hash."""
    memory = make_memory_map(manifest.layout.config)
    arrays, memories = array_sizes(memory), array_memories(memory)
    lines = [
        *_dimensions(memory),
        "",
        *_accelerator(accelerator),
        _int("kSumDepth", sum_depth(program, manifest.layout.config, accelerator)),
        "",
        "// The arrays: banks of parameters, pools of temporary arrays, small arrays of their own.",
        *(f"static float {name}[{size}]{_initial(name)};" for name, size in arrays.items()),
        f"enum Array {{ {', '.join(f'k_{name}' for name in arrays)} }};",
        "#define TTFPGA_ARRAYS(USE) " + " ".join(f"USE({name})" for name in arrays),
        "// Memories: those of an array, numbered on, each of so many elements.",
        _array("kMemorySize", (size for size, _ in memories.values())),
        _array("kFirstMemory", accumulate((n for _, n in list(memories.values())[:-1]), initial=0)),
        _int("kMemoryCount", sum(n for _, n in memories.values())),
        "#define TTFPGA_BANKS(USE) " + " ".join(f"USE({bank.name})" for bank in memory.layout.banks),
        "// Binds them to memories; stands at the beginning of the top function.",
        f"#define TTFPGA_BIND_MEMORY {_pragmas(memory)}",
        "",
        "// Words of the trace buffer.",
        _int("kTraceWords", manifest.words),
        "",
        "// The program, as initialisers of Instruction (program.hpp); the forward pass first.",
        _int("kOperands", OPERANDS),
        _int("kInstructions", len(program.instructions)),
        _int("kForwardInstructions", program.forward),
        "#define TTFPGA_PROGRAM \\",
        *_program(program, list(arrays)),
    ]
    return "\n".join(lines)


def array_sizes(memory: MemoryMap) -> dict[str, int]:
    """Elements of every on-chip array, by name, in the order of their numbers."""
    sizes = {bank.name: bank.size for bank in memory.layout.banks}
    if not memory.config.immediate:
        sizes |= {f"{bank.name}_gradient": bank.size for bank in memory.layout.banks}
    sizes |= {pool: memory.slots[pool] * size for pool, size in memory.slot_size.items()}
    return sizes | {array.name: array.size for array in memory.fixed}


def array_memories(memory: MemoryMap) -> dict[str, tuple[int, int]]:
    """Elements of each memory of an array, and how many it has: one, or one for each slot of a pool."""
    return {
        name: (memory.slot_size[name], memory.slots[name]) if name in SLOT_MEMORIES else (size, 1)
        for name, size in array_sizes(memory).items()
    }


def _dimensions(memory: MemoryMap) -> Iterator[str]:
    config = memory.config
    yield _int("kImageWords", memory.layout.image_words)
    yield ""
    yield _int("kTokens", config.seq_len)
    yield _int("kIntents", config.n_intents)
    yield _int("kSlots", config.n_slots)
    yield "// Words of an example, and those before its tokens; numbers of an inference."
    yield _int("kExampleWords", example_words(config))
    yield _int("kHeadWords", HEAD_WORDS)
    yield _int("kLogits", logits_per_example(config))
    pool, slot_logits = memory.place("slot_logits")
    yield f"// Where INFER finds the slots' logits, in {pool}, and how far their rows lie apart."
    yield _int("kSlotLogits", slot_logits)
    yield _int("kSlotPitch", pitch_of(config.n_slots))
    yield _float("kNormEps", config.norm_eps)
    yield _float("kSlotLossWeight", config.slot_weight)
    yield _int("kNormWidth", config.d_model)
    yield _int("kMaxRows", config.n_heads * config.seq_len)
    yield _int("kEmbedCores", len(config.vocab_modes))
    yield _array("kVocabModes", config.vocab_modes)


def _accelerator(accelerator: Accelerator) -> Iterator[str]:
    yield "// The accelerator: the engine's tile, trips between additions to a sum, lanes of the other units."
    yield _int("kTileRows", accelerator.tile_rows)
    yield _int("kTileLanes", accelerator.tile_lanes)
    yield _int("kSumDistance", accelerator.sum_distance)
    yield _int("kNormLanes", accelerator.norm_lanes)
    yield _int("kNonlinearLanes", accelerator.nonlinear_lanes)
    yield _int("kUpdateLanes", accelerator.update_lanes)
    yield "// Cycles of its operators, and of a memory's read."
    for name, operator in OPERATORS.items():
        yield _int(f"k{name.title()}Cycles", operator.cycles[accelerator.clock_class])


def _initial(name: str) -> str:
    return " = {1.0f}" if name == "one" else ""


def _program(program: Program, arrays: list[str]) -> Iterator[str]:
    last = len(program.instructions) - 1
    for i, (job, following) in enumerate(zip(program.instructions, _following(program), strict=True)):
        yield f"  {_instruction(job, following, arrays)}{', ' + chr(92) if i < last else ''}"


def _following(program: Program) -> list[int]:
    """Of each instruction the next of its unit, or the end."""
    end = len(program.instructions)
    found, last = [end] * end, {}
    for i, job in enumerate(program.instructions):
        unit = unit_of(job.op)
        if unit in last:
            found[last[unit]] = i
        last[unit] = i
    return found


def _instruction(job: Instruction, following: int, arrays: list[str]) -> str:
    operands = [*job.operands, *[None] * (OPERANDS - len(job.operands))]
    fields = (
        *(int(job.op), job.rows, job.cols, job.stream, job.batches),
        *(job.interval, job.load, job.load_interval, int(job.flags), job.order, job.trace),
    )
    texts = [*map(str, fields), f"{np.float32(job.scale):.9e}f"]
    # A unit waits for no instruction of its own: there stands its next.
    waits = [*(job.waits or [NONE] * len(UNITS))]
    if unit_of(job.op) != NONE:
        waits[unit_of(job.op)] = following
    texts.append(f"{{{', '.join(map(str, waits))}}}")
    texts.append(f"{{{', '.join(_operand(o, arrays) for o in operands)}}}")
    return f"{{{', '.join(texts)}}}"


def _operand(operand: Operand | None, arrays: list[str]) -> str:
    if operand is None:
        return f"{{{NONE}, 0, 0, 0, {NONE}}}"
    number = arrays.index(operand.array)
    return f"{{{number}, {operand.base}, {operand.row}, {operand.batch}, {operand.digit}}}"


def _pragmas(memory: MemoryMap) -> str:
    """Each array in words of its lanes, or in LUTRAM a memory a lane, of its kind; pools a memory a slot."""
    lines = []
    for pool in SLOT_MEMORIES:
        if memory.slots[pool] > 1:
            lines.append(f"HLS ARRAY_PARTITION variable={pool} block factor={memory.slots[pool]}")
    for name, shape in shapes_by_array(memory).items():
        if shape.kind == "registers":
            lines.append(f"HLS ARRAY_PARTITION variable={name} complete")
            continue
        ports, divide = ("RAM_S2P", "PARTITION") if shape.kind == "lutram" else ("RAM_T2P", "RESHAPE")
        lanes = shape.width // WORD_BITS
        lines.append(f"HLS ARRAY_{divide} variable={name} cyclic factor={lanes}")
        lines.append(f"HLS BIND_STORAGE variable={name} type={ports} impl={shape.kind.upper()}")
    return " ".join(f'_Pragma("{line}")' for line in lines)


def _int(name: str, value: int) -> str:
    return f"constexpr int {name} = {value};"


def _float(name: str, value: float) -> str:
    # Nine significant digits name a float32 uniquely.
    return f"constexpr float {name} = {np.float32(value):.9e}f;"


def _array(name: str, values: Iterable[object], type_name: str = "int") -> str:
    return f"constexpr {type_name} {name}[] = {{{', '.join(map(str, values))}}};"
