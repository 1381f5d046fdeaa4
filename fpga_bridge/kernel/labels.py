"""Numbers of intents and slots, which size a kernel's outputs: a corpus's, and those of a built kernel.

A preset has its own; a corpus's are other ones unless the preset was made for it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import UInt32

from fpga_bridge.kernel.header import kernel_hash
from fpga_bridge.program.manifest import make_manifest
from ttjax import ModelConfig
from ttjax.config import PRESETS
from ttjax.data import build_vocabulary, config_for, load_corpus


def config_of_data(start: ModelConfig, data: str | None, notify: Callable[[str], None]) -> ModelConfig:
    """The config with the label counts of the corpus that ``data`` names, as it is where that is None.

    data, notify: as of ``load_corpus``.

    Raises:
        UserError: the corpus can't be had.
    """
    if data is None:
        return start
    return config_for(start, build_vocabulary(load_corpus(data, notify=notify), start.vocab_size))


def labels_of_kernel(config: ModelConfig, found: UInt32[np.ndarray, " 8"]) -> tuple[int, int] | None:
    """Intents and slots of a kernel that is this config's but for them, and has a preset's; else None.

    found: the kernel's hash.
    """
    for labels in sorted({(preset.n_intents, preset.n_slots) for preset in PRESETS.values()}):
        other = config.replace(n_intents=labels[0], n_slots=labels[1])
        if np.array_equal(kernel_hash(make_manifest(other)), found):
            return labels
    return None
