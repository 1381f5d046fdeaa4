"""The two heads and the loss as instructions: intent from [CLS], slots from every token."""

from __future__ import annotations

from fpga_bridge.memory.layout import pitch_of
from fpga_bridge.program.emit_encoder import gelu_backward, gelu_forward
from fpga_bridge.program.emit_linear import Linear, linear_backward
from fpga_bridge.program.emitter import FORWARD, Emitter
from fpga_bridge.program.instructions import LENGTH, Flag, Op, Operand
from fpga_bridge.program.products import Product


def heads_forward(emit: Emitter) -> None:
    """Logits of both heads from the encoder's output."""
    x, width = emit.activation("hidden", emit.config.n_blocks), emit.config.d_model
    hidden, active = emit.fixed("intent_hidden", width), emit.fixed("intent_active", width)
    intent, slot = Linear(emit, "intent_pre", FORWARD, 1), Linear(emit, "slot_pre", FORWARD, LENGTH)
    # The intent head's few products find their time while the slot head's GELU and norm are at work.
    emit.stage("forward", "slot_pre")
    slot.forward(x, emit.activation("slot_hidden"))
    emit.stage("forward", "intent_pre")
    intent.forward(x, hidden)
    emit.stage("forward", "intent_tanh")
    emit.builder.emit(Op.TANH, hidden, None, active, cols=width)
    emit.tap("intent_tanh", active)
    emit.stage("forward", "slot_gelu")
    gelu_forward(emit, "slot_gelu", emit.activation("slot_hidden"), emit.activation("slot_active"))
    emit.stage("forward", "slot_norm")
    normed = emit.activation("slot_normed")
    emit.norm_forward("slot_norm", FORWARD, emit.activation("slot_active"), normed)
    emit.stage("forward", "intent_out")
    classifier_forward(emit, "intent", 1, active, _logits(emit, "intent_logits"))
    emit.stage("forward", "slot_out")
    classifier_forward(emit, "slot", LENGTH, normed, _logits(emit, "slot_logits"))


def loss(emit: Emitter) -> None:
    """Cross-entropy of the intent, its mean over the words' slots, their sum; gradients of the logits."""
    emit.stage("forward", "loss")
    joint, intent, slot = (emit.fixed("losses").at(i) for i in range(3))
    logits = _logits(emit, "intent_logits"), None, _logits(emit, "d_intent_logits")
    emit.builder.emit(Op.CROSS_ENTROPY, *logits, intent, cols=emit.config.n_intents)
    emit.tap("intent_loss", intent)
    logits = _logits(emit, "slot_logits"), None, _logits(emit, "d_slot_logits")
    flags, classes = int(Flag.SLOT_LABELS), emit.config.n_slots
    emit.builder.emit(Op.CROSS_ENTROPY, *logits, slot, stream=LENGTH, cols=classes, flags=flags)
    emit.tap("slot_loss", slot)
    emit.builder.emit(Op.JOINT_LOSS, intent, None, joint, cols=2)  # of two neighbours
    emit.tap("loss", joint)


def heads_backward(emit: Emitter) -> None:
    """The gradient of the encoder's output into d_stream; all gradients of the heads' parameters."""
    x, width = emit.activation("hidden", emit.config.n_blocks), emit.config.d_model
    stream, branch, wide = (emit.activation(f"d_{name}") for name in ("stream", "branch", "wide"))
    emit.stage("backward", "slot_out")
    classifier_backward(
        emit, "slot", LENGTH, emit.activation("slot_normed"), _logits(emit, "d_slot_logits"), wide
    )
    emit.stage("backward", "slot_norm")
    emit.norm_backward("slot_norm", wide, branch)
    emit.stage("backward", "slot_gelu")
    gelu_backward(emit, "slot_gelu", emit.activation("slot_hidden"), branch, wide)
    emit.stage("backward", "slot_pre")
    linear_backward(emit, "slot_pre", LENGTH, x, wide, stream)

    active, d_intent = emit.fixed("intent_active", width), emit.fixed("d_intent", width)
    emit.stage("backward", "intent_out")
    classifier_backward(emit, "intent", 1, active, _logits(emit, "d_intent_logits"), d_intent)
    emit.stage("backward", "intent_tanh")
    emit.tap("d_intent_tanh", d_intent)
    emit.builder.emit(Op.TANH_BACKWARD, active, d_intent, d_intent, cols=width)
    emit.stage("backward", "intent_pre")
    linear_backward(emit, "intent_pre", 1, x, d_intent, stream, addend=stream)


def _logits(emit: Emitter, name: str) -> Operand:
    if name.endswith("intent_logits"):
        return emit.fixed(name, pitch_of(emit.config.n_intents))
    return emit.builder.place(name, row=pitch_of(emit.config.n_slots))


def _shape(emit: Emitter, head: str, stream: int) -> Product:
    classes = emit.config.n_intents if head == "intent" else emit.config.n_slots
    return Product(stream, emit.config.d_model, classes, by_columns=True)


def classifier_forward(emit: Emitter, head: str, stream: int, x: Operand, logits: Operand) -> None:
    """Emits logits = x W + b."""
    weight, bias = (emit.builder.parameter(f"{head}_out.{part}") for part in ("weight", "bias"))
    emit.contract.product(_shape(emit, head, stream), x, weight, logits, bias=bias)
    emit.tap(f"{head}_logits", logits)


def classifier_backward(
    emit: Emitter, head: str, stream: int, x: Operand, d_logits: Operand, dx: Operand
) -> None:
    """dx, and the gradients of W and b."""
    shape, layer = _shape(emit, head, stream), f"{head}_out"
    emit.tap(f"d_{head}_logits", d_logits)
    emit.contract.left(shape, dx, emit.builder.parameter(f"{layer}.weight"), d_logits)
    if not emit.config.trains(layer):
        return
    emit.contract.right(shape, x, emit.builder.gradient(f"{layer}.weight"), d_logits)
    # The bias is a row of weights for an input of one.
    ones = Product(stream, 1, shape.cols)
    emit.contract.right(ones, emit.fixed("one"), emit.builder.gradient(f"{layer}.bias"), d_logits)
    emit.complete(f"{layer}.weight", f"{layer}.bias")
