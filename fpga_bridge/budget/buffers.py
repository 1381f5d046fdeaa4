"""The memories that belong to the units and not to the memory map: their buffers, and the program.

They depend on the accelerator too: the engine's tiles and sums, the values of rows that the other units keep
from one pass to the next.
"""

from __future__ import annotations

from dataclasses import fields
from functools import lru_cache

from fpga_bridge.device import HEAD_WORDS
from fpga_bridge.memory.banks import WORD_BITS, bank_shapes
from fpga_bridge.memory.blocks import BankShape, BlockCount, total_blocks
from fpga_bridge.memory.memory_map import MemoryMap
from fpga_bridge.program.accelerator import DEFAULT, Accelerator
from fpga_bridge.program.instructions import OPERANDS, Operand
from fpga_bridge.program.make_program import make_program, sum_depth
from fpga_bridge.program.manifest import make_manifest
from fpga_bridge.program.schedule import UNITS
from ttjax import ModelConfig

# 32-bit words of an instruction, as hls/program.hpp has it: 12 numbers, what it waits for of each unit,
# and the numbers of its operands.
INSTRUCTION_WORDS = 12 + len(UNITS) + OPERANDS * len(fields(Operand))


def kernel_shapes(
    memory: MemoryMap, accelerator: Accelerator = DEFAULT, *, grouped: bool = True
) -> list[BankShape]:
    """Every memory of a kernel: of the memory map (``grouped`` as there), the units, the program."""
    config = memory.config
    return [
        *bank_shapes(memory, grouped=grouped),
        *buffer_shapes(config, accelerator),
        program_shape(config, accelerator),
    ]


def training_bytes(memory: MemoryMap, accelerator: Accelerator = DEFAULT) -> int:
    """Bytes of all data that a training step has on chip: the memory map's arrays and the units' buffers.

    The program is not among them: no other implementation's code is counted either.
    """
    buffers = sum(shape.bits for shape in buffer_shapes(memory.config, accelerator))
    return memory.total_bytes + buffers // 8


def buffer_shapes(config: ModelConfig, accelerator: Accelerator = DEFAULT) -> list[BankShape]:
    """The units' own buffers: registers and LUTRAM, which a cycle reads and writes whole words of.

    As pragmas in hls/ ask for them; that Vitis does so has not been seen.
    """
    a, tokens = accelerator, config.seq_len
    turns = 2 * a.sum_distance
    columns_a_part = a.tile_lanes // a.tile_rows
    parts = max(a.tile_rows, a.tile_lanes // columns_a_part + 1)
    chunks = -(-config.d_model // a.norm_lanes)
    # Of each token its slot, and of each core its digit and its place in the digits' order.
    sentence = HEAD_WORDS + tokens * (1 + 2 * len(config.vocab_modes))
    return [
        _registers("engine_tiles", 2 * a.macs),
        # One set of sums grows while the other leaves.
        *(_lutram(f"engine_turns[{i}]", a.macs, turns) for i in range(2)),
        *(_lutram(f"engine_columns[{i}]", a.tile_lanes, turns) for i in range(2)),
        _lutram("engine_parts", a.tile_lanes, parts + 1),
        _lutram("engine_sums", a.tile_lanes, _sum_depth(config, a)),
        *(_lutram(f"norm_rows[{i}]", 1, tokens) for i in range(3)),
        *(_lutram(f"norm_gradients[{i}]", a.norm_lanes, chunks) for i in range(2)),
        _registers("norm_sums", 2 * a.sum_distance),
        *(_lutram(f"nonlinear_rows[{i}]", 1, config.n_heads * tokens) for i in range(2)),
        _registers("update_digits", tokens),
        _registers("sentence", sentence),
    ]


def program_shape(config: ModelConfig, accelerator: Accelerator = DEFAULT) -> BankShape:
    """The memory of the program, which is only read: an instruction a word."""
    length, _ = _program_facts(config, accelerator)
    return program_memory(length)


def program_memory(instructions: int) -> BankShape:
    """The memory of a program of that many instructions."""
    return BankShape("program", INSTRUCTION_WORDS * WORD_BITS, instructions, "bram")


def program_blocks(config: ModelConfig, accelerator: Accelerator = DEFAULT) -> BlockCount:
    """The memory blocks that the program takes of a budget."""
    return total_blocks([program_shape(config, accelerator)])


def _sum_depth(config: ModelConfig, accelerator: Accelerator) -> int:
    # The same however much is made again: a block's second forward pass is its first once more.
    return _program_facts(config.replace(recompute=(), rederive=False, immediate=True), accelerator)[1]


@lru_cache(maxsize=64)
def _program_facts(config: ModelConfig, accelerator: Accelerator) -> tuple[int, int]:
    """Instructions of the program, and rows of the engine's accumulators."""
    program = make_program(make_manifest(config), accelerator)
    return len(program.instructions), sum_depth(program, config, accelerator)


def _registers(name: str, elements: int) -> BankShape:
    return BankShape(name, elements * WORD_BITS, 1, "registers")


def _lutram(name: str, lanes: int, words: int) -> BankShape:
    return BankShape(name, lanes * WORD_BITS, words, "lutram")
