"""The encoder as instructions: embedding, post-LayerNorm blocks and their attention, forward and backward."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from fpga_bridge.memory.layout import pitch_of
from fpga_bridge.program.emit_linear import Linear, linear_backward
from fpga_bridge.program.emit_merges import merges_backward, merges_forward
from fpga_bridge.program.emitter import BACKWARD, FORWARD, Emitter
from fpga_bridge.program.instructions import LENGTH, NONE, Op, Operand
from fpga_bridge.program.products import Product, batched


def encoder_forward(emit: Emitter) -> None:
    """Token ids to the encoder's output."""
    embedding_forward(emit, "forward", FORWARD)
    merges_forward(emit)
    emit.stage("forward", "embed_norm")
    emit.norm_forward("embed_norm", FORWARD, emit.activation("embedding"), emit.activation("hidden"))
    for block in range(emit.config.n_blocks):
        block_forward(emit, "forward", block, emit.activation("hidden", block + 1))


def encoder_backward(emit: Emitter) -> None:
    """From the gradient of the encoder's output to the gradients of all its parameters."""
    d_stream, d_branch = emit.activation("d_stream"), emit.activation("d_branch")
    for block in reversed(range(emit.config.n_blocks)):
        # The output of a block that runs again is known: it goes where its last sum was.
        if block in emit.config.recompute:
            block_forward(emit, "recompute", block, emit.activation("branch"))
        block_backward(emit, block)
    emit.stage("backward", "embed_norm")
    if emit.config.rederive:
        embedding_forward(emit, "backward", BACKWARD)
        embedding = emit.activation("embedding")
        emit.norm_forward("embed_norm", BACKWARD, embedding, embedding)
    # The gradient of a position is that of its embedding: where gradients are held, it is written there too.
    holds = emit.config.trains("embed") and not emit.config.immediate
    held = emit.builder.gradient("embed.position") if holds else None
    emit.norm_backward("embed_norm", d_stream, d_branch, held)
    emit.stage("backward", "embed")
    embedding_backward(emit)
    merges_backward(emit)


def block_forward(emit: Emitter, phase: str, block: int, out: Operand) -> None:
    """Emits x = norm1(x + attention(x)); x = norm2(x + feed_forward(x)), from hidden[block] to ``out``."""
    of_pass = FORWARD if phase == "forward" else BACKWARD
    name = f"block{block}"

    def linear(layer: str) -> Linear:
        emit.stage(phase, f"{name}.{layer}")
        return Linear(emit, f"{name}.{layer}", of_pass, LENGTH)

    def at(array: str) -> Operand:
        return emit.activation(array, block, of_pass)

    x, branch = emit.activation("hidden", block), emit.activation("branch")
    linear("q").forward(x, at("query"))
    linear("k").forward(x, at("key"))
    emit.stage(phase, f"{name}.attention")
    attention = Attention(emit, block, of_pass)
    attention.weights()
    # Needs nothing of the softmax, which is at work meanwhile.
    linear("v").forward(x, at("value"))
    emit.stage(phase, f"{name}.attention")
    attention.forward()
    linear("o").forward(at("context"), branch)
    emit.stage(phase, f"{name}.norm1")
    emit.norm_forward(f"{name}.norm1", of_pass, branch, at("attended"), residual=x)
    linear("ffn_in").forward(at("attended"), at("ffn_hidden"))
    emit.stage(phase, f"{name}.gelu")
    gelu_forward(emit, f"{name}.gelu", at("ffn_hidden"), at("ffn_active"))
    linear("ffn_out").forward(at("ffn_active"), branch)
    emit.stage(phase, f"{name}.norm2")
    emit.norm_forward(f"{name}.norm2", of_pass, branch, out, residual=at("attended"))


def block_backward(emit: Emitter, block: int) -> None:
    """d_stream holds the gradient of hidden[block + 1] before, and of hidden[block] after."""
    name = f"block{block}"

    def linear(layer: str, x: Operand, dy: Operand, dx: Operand, addend: Operand | None = None) -> None:
        emit.stage("backward", f"{name}.{layer}")
        linear_backward(emit, f"{name}.{layer}", LENGTH, x, dy, dx, addend)

    def kept(array: str) -> Operand:
        return emit.activation(array, block, BACKWARD)

    def back(array: str) -> Operand:
        return emit.activation(f"d_{array}")

    # A residual sum hands its gradient, d_branch, to both branches: it goes through the layers, and what
    # comes out of them is added to it. Sums go back and forth between two places: in place they would want
    # four ports of one memory.
    stream, branch, wide = back("stream"), back("branch"), back("wide")
    emit.stage("backward", f"{name}.norm2")
    emit.norm_backward(f"{name}.norm2", stream, branch)
    linear("ffn_out", kept("ffn_active"), branch, wide)
    emit.stage("backward", f"{name}.gelu")
    gelu_backward(emit, f"{name}.gelu", kept("ffn_hidden"), wide, wide)
    # Read for the gradients of ffn_in alone: where that is frozen, its place is another array's by now.
    attended = kept("attended")
    if emit.config.rederive and emit.config.trains(f"{name}.ffn_in"):
        attended = kept("attended_again")
        emit.stage("backward", f"{name}.ffn_in")
        emit.norm_again(f"{name}.norm1", attended)
    linear("ffn_in", attended, wide, stream, addend=branch)
    emit.stage("backward", f"{name}.norm1")
    emit.norm_backward(f"{name}.norm1", stream, branch)
    linear("o", kept("context"), branch, wide)
    emit.stage("backward", f"{name}.attention")
    attention, x = Attention(emit, block, BACKWARD), emit.activation("hidden", block)
    attention.weights_backward(wide)
    # Needs nothing of the softmax, which is at work meanwhile.
    linear("v", x, back("value"), stream, addend=branch)
    emit.stage("backward", f"{name}.attention")
    attention.scores_backward()
    linear("k", x, back("key"), branch, addend=stream)
    linear("q", x, back("query"), stream, addend=branch)


def gelu_forward(emit: Emitter, name: str, x: Operand, y: Operand) -> None:
    """Emits y = GELU(x)."""
    emit.builder.emit(Op.GELU, x, None, y, stream=LENGTH, cols=emit.config.d_model)
    emit.tap(name, y)


def gelu_backward(emit: Emitter, name: str, x: Operand, dy: Operand, dx: Operand) -> None:
    """Emits dx = dy GELU'(x)."""
    emit.tap(f"d_{name}", dy)
    emit.builder.emit(Op.GELU_BACKWARD, x, dy, dx, stream=LENGTH, cols=emit.config.d_model)


class Attention:
    """Multi-head attention in one pass: heads are column ranges of queries, keys, values and context."""

    def __init__(self, emit: Emitter, block: int, of_pass: int) -> None:
        config = emit.config
        tokens, heads, width = config.seq_len, config.n_heads, config.head_dim
        self.emit, self.name = emit, f"block{block}"
        # A sentence's own length in place of the longest: padding costs nothing.
        self.scores = Product(LENGTH, width, LENGTH, heads, by_columns=True, scale=1.0 / width**0.5)
        self.context = Product(LENGTH, LENGTH, width, heads)
        self.query, self.key, self.value, self.out = (
            batched(emit.activation(part, block, of_pass), width)
            for part in ("query", "key", "value", "context")
        )
        self.probs = batched(emit.builder.place("probs", block, of_pass, row=tokens), tokens * tokens)
        self.d_scores = batched(emit.builder.place("d_scores", row=tokens), tokens * tokens)

    def weights(self) -> None:
        """P = softmax(q k^T / sqrt(head_dim)), which is kept."""
        emit = self.emit
        emit.contract.product(self.scores, self.query, self.key, self.probs)
        emit.tap(f"{self.name}.scores", self.probs)
        every = {"batches": emit.config.n_heads, "stream": LENGTH, "cols": LENGTH}
        emit.builder.emit(Op.SOFTMAX, self.probs, None, self.probs, **every)
        emit.tap(f"{self.name}.probs", self.probs)

    def forward(self) -> None:
        """Emits context = P v."""
        self.emit.contract.product(self.context, self.probs, self.value, self.out)
        self.emit.tap(f"{self.name}.context", replace(self.out, batch=0))

    def weights_backward(self, dc: Operand) -> None:
        """From d_context, ``dc``: d_value, and the gradient of the scores from that of the weights."""
        emit = self.emit
        d_out = batched(dc, emit.config.head_dim)
        emit.tap(f"d_{self.name}.context", dc)
        emit.contract.left(self.context, self.d_scores, self.value, d_out)
        emit.contract.right(self.context, self.probs, self._gradient("value"), d_out)
        emit.tap(f"d_{self.name}.probs", self.d_scores)
        every = {"batches": emit.config.n_heads, "stream": LENGTH, "cols": LENGTH}
        emit.builder.emit(Op.SOFTMAX_BACKWARD, self.probs, self.d_scores, self.d_scores, **every)
        emit.tap(f"d_{self.name}.scores", self.d_scores)

    def scores_backward(self) -> None:
        """d_query and d_key."""
        self.emit.contract.left(self.scores, self._gradient("query"), self.key, self.d_scores)
        self.emit.contract.right(self.scores, self.query, self._gradient("key"), self.d_scores)

    def _gradient(self, part: str) -> Operand:
        return batched(self.emit.activation(f"d_{part}"), self.emit.config.head_dim)


class TokenRows:
    """The TTM chain of each token, merged from the right: products of the cores that its digits pick.

    P_k (r_k n_k, n_{k+1} ...) = G_k[digit k] P_{k+1}; P_0 is the token's row of the table.
    """

    def __init__(self, emit: Emitter, of_pass: int) -> None:
        config = emit.config
        modes, ranks, last = config.embed_modes, config.ttm_ranks, len(config.embed_modes) - 1
        self.shapes = {
            k: Product(ranks[k] * modes[k], ranks[k + 1], prod(modes[k + 1 :]), LENGTH) for k in range(last)
        }
        self.cores = [
            self._picked(emit, emit.builder.parameter(f"embed.core{k}"), k) for k in range(last + 1)
        ]
        self.products = self._products(emit, "row_products", of_pass)
        if emit.config.trains("embed"):
            gradients = (emit.builder.gradient(f"embed.core{k}") for k in range(last + 1))
            self.d_cores = [self._picked(emit, gradient, k) for k, gradient in enumerate(gradients)]
            self.d_products = self._products(emit, "d_row_products", BACKWARD)

    @staticmethod
    def _picked(emit: Emitter, core: Operand, k: int) -> Operand:
        size = emit.memory.layout.placement(f"embed.core{k}").size // emit.config.vocab_modes[k]
        return batched(core, size, k)

    def _products(self, emit: Emitter, name: str, of_pass: int) -> dict[int, Operand]:
        """P_{last-1} ... P_1 of every token."""
        sizes = {k: pitch_of(shape.stream * shape.cols) for k, shape in self.shapes.items() if k}
        places, offset = {}, 0
        for k in sorted(sizes, reverse=True):
            row = self.shapes[k].cols
            at = emit.builder.place(name, of_pass=of_pass, row=row).at(offset)
            places[k] = batched(at, sum(sizes.values()))
            offset += sizes[k]
        return places

    def after(self, k: int) -> Operand:
        """P_{k+1}, as the right factor of P_k: rows of n_{k+1} ... elements."""
        if k + 1 == len(self.cores) - 1:
            return self.cores[-1]
        return replace(self.products[k + 1], row=self.shapes[k].cols)

    def d_after(self, k: int) -> Operand:
        """The place of its gradient."""
        if k + 1 == len(self.cores) - 1:
            return self.d_cores[-1]
        return replace(self.d_products[k + 1], row=self.shapes[k].cols)


def embedding_forward(emit: Emitter, phase: str, of_pass: int) -> None:
    """Emits embedding = token rows + position rows."""
    if phase == "forward":
        emit.stage(phase, "embed")
    rows, out = TokenRows(emit, of_pass), emit.activation("embedding")
    _inner_products(emit, rows)
    width = emit.config.d_model
    per_token = rows.shapes[0].cols
    position = emit.builder.parameter("embed.position")
    position = batched(replace(position, row=per_token), position.row)
    c = batched(replace(out, row=per_token), width)
    emit.contract.product(rows.shapes[0], rows.cores[0], rows.after(0), c, addend=position)
    emit.tap("embed", out)


def _inner_products(emit: Emitter, rows: TokenRows) -> None:
    for k in sorted(rows.products, reverse=True):
        emit.contract.product(rows.shapes[k], rows.cores[k], rows.after(k), rows.products[k])


def embedding_backward(emit: Emitter) -> None:
    """Gradients of the positions and of the TTM cores, from the gradient of the embedding in d_branch."""
    d_embedding = emit.activation("d_branch")
    emit.tap("d_embed", d_embedding)
    if not emit.config.trains("embed"):
        return
    rows, width = TokenRows(emit, BACKWARD), emit.config.d_model
    cores = range(len(rows.cores))
    for k in cores:
        # What no token has picked is zero; only the trace asks for it.
        size = emit.memory.layout.placement(f"embed.core{k}").size
        emit.builder.emit(Op.CLEAR, emit.builder.gradient(f"embed.core{k}"), cols=size)
    dc = batched(replace(d_embedding, row=rows.shapes[0].cols), width)
    for k in cores[:-1]:
        if k:
            dc = rows.d_products[k]
        shape = rows.shapes[k]
        # A slice of a core that several tokens pick gathers their gradients.
        emit.contract.left(shape, rows.d_cores[k], rows.after(k), dc, order=k)
        last = k + 1 == cores[-1]
        emit.contract.right(shape, rows.cores[k], rows.d_after(k), dc, order=k + 1 if last else NONE)
    emit.complete(*(f"embed.core{k}" for k in cores), "embed.position")
