"""Planted faults: mutations of the kernel's sources that prove the agreement check can fail.

Each names the first trace point that must disagree. The kernel itself carries no hooks: a fault replaces
one piece of source text before the kernel is built.
"""

from __future__ import annotations

from dataclasses import dataclass

from fpga_bridge.build import kernel_sources
from ttjax import UserError


@dataclass(frozen=True)
class Fault:
    """In ``file``, ``old`` (which occurs once) becomes ``new``.

    point: the first trace point of ``tiny`` or a paper preset that must disagree; ``{last}`` stands
    for the last block. step: the step it shows in.
    """

    name: str
    what: str
    file: str
    old: str
    new: str
    point: str
    step: int = 0

    def sources(self) -> dict[str, str]:
        """The kernel's sources with the fault in them.

        Raises:
            UserError: the text to replace is not there exactly once (the kernel has changed).
        """
        files = kernel_sources()
        count = files[self.file].count(self.old)
        if count != 1:
            raise UserError(
                f"fault {self.name}: expected its text once in {self.file}, found it {count} times; update"
                " fpga_bridge/faults.py"
            )
        return {**files, self.file: files[self.file].replace(self.old, self.new)}

    def first_point(self, n_blocks: int) -> str:
        """The point that must disagree first in a model of that many blocks."""
        return self.point.format(last=f"block{n_blocks - 1}")


FAULTS = {
    fault.name: fault
    for fault in (
        Fault(
            "flipped_bit",
            "one exponent bit of one core flips before the step",
            "step.hpp",
            "float (&losses)[3], const Taps& taps) {\n",
            "float (&losses)[3], const Taps& taps) {\n"
            "  float& hit = Bank<kLinearCoreBank + 1>::value()[3];\n"
            "  hit = as_float(as_bits(hit) ^ 0x00800000u);\n",
            "block0.q.left",
        ),
        Fault(
            "dropped_mask",
            "padding takes part in the softmax",
            "attention.hpp",
            "j < length ? exp_f32(attention[row + j] - highest) : 0.0f",
            "j < length + kTokens ? exp_f32(attention[row + j] - highest) : 0.0f",
            "block0.probs",
        ),
        Fault(
            "norm_epsilon",
            "LayerNorm with epsilon 1e-3",
            "layer_norm.hpp",
            "std::sqrt(variance + kNormEps)",
            "std::sqrt(variance + 1e-3f)",
            "embed_norm",
        ),
        Fault(
            "transposed_core",
            "the left merge reads each core as its transpose",
            "tt_chain.hpp",
            "using Core = RowMajor<kInner, kCols>;    // G_k",
            "using Core = Transposed<RowMajor<kCols, kInner>>;",
            "block0.q.left",
        ),
        Fault(
            "missing_bias_gradient",
            "the gradients of biases stay zero",
            "bias.hpp",
            "memory()[to + i] = sum;",
            "memory()[to + i] = 0.0f * sum;",
            "d_slot_out.bias",
        ),
        Fault(
            "stale_merged_half",
            "the right half is merged once and not again after the update",
            "tt_linear.hpp",
            "  RightMerge<RightHalf, Into::kReplace, 0>::forward(",
            "  if (right[place::right[pass][layer]] == 0.0f)\n"
            "    RightMerge<RightHalf, Into::kReplace, 0>::forward(",
            "block0.q.right",
            step=1,
        ),
        Fault(
            "wrong_label",
            "the intent's label is off by one",
            "heads.hpp",
            "cross_entropy<kIntents>(intent_logits, 0, intent,",
            "cross_entropy<kIntents>(intent_logits, 0, (intent + 1) % kIntents,",
            "intent_loss",
        ),
        Fault(
            "skipped_update",
            "one bank of cores is never updated",
            "memory.hpp",
            "[start + i] - step.rate *",
            "[start + i] - (kIndex == kLinearCoreBank + 2 ? 0.0f : step.rate) *",
            "new_slot_pre.core2",
        ),
        Fault(
            "missing_residual",
            "the attention's residual sum is left out",
            "encoder.hpp",
            "  add_to(place::branch, x0);\n",
            "",
            "block0.norm1",
        ),
        Fault(
            "unscaled_score_gradient",
            "the gradient of the scores misses 1/sqrt(head_dim)",
            "attention.hpp",
            "  scale_scores(ds0);\n",
            "",
            "d_{last}.k",
        ),
        Fault(
            "overwritten_token_gradient",
            "a token that comes twice keeps only its last gradient",
            "ttm_embedding.hpp",
            "RightMerge<EmbeddingRow, Into::kAdd, 0>::backward(",
            "RightMerge<EmbeddingRow, Into::kReplace, 0>::backward(",
            "d_embed.core0",
        ),
        Fault(
            "padding_in_slot_loss",
            "padding counts as words",
            "heads.hpp",
            "const bool is_word = t > 0 && t < length;",
            "const bool is_word = t > 0;",
            "slot_loss",
        ),
    )
}


def find_fault(name: str) -> Fault:
    """The fault of that name.

    Raises:
        UserError: there is none.
    """
    if name not in FAULTS:
        raise UserError(f"unknown fault {name!r}: expected one of {', '.join(FAULTS)}")
    return FAULTS[name]
