"""The model of ``ttjax.model`` in PyTorch: the same parameters and names, its linears in several ways.

Written as a PyTorch user would: modules, autograd, the fused attention and LayerNorm of torch, batched input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import Tensor, nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional as F  # pyright: ignore[reportMissingImports]

from ttjax.batch import Batch
from ttjax.config import ModelConfig
from ttjax.params import BLOCK_LINEARS, linear_core_shapes
from ttjax.tt import ttm_core_shapes

# How a linear layer multiplies: nn.Linear; 2-D products of merged halves; one torch.einsum over all cores;
# tensorly-torch's FactorizedLinear, contracting the cores with x or forming the matrix from them.
Linear = Literal["dense", "halves", "einsum", "factorized", "reconstructed"]


class HalvesLinear(nn.Module):
    """TT layer by 2-D products alone: both halves merged first, as in ``ttjax.contraction.bidirectional``."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.cores = nn.ParameterList(torch.zeros(shape) for shape in linear_core_shapes(config))
        self.bias = nn.Parameter(torch.zeros(config.d_model))
        self.n_in = len(config.in_modes)

    def forward(self, x: Tensor) -> Tensor:
        """X W + b of (..., d_model)."""
        cores = list(self.cores)
        left = cores[0].reshape(-1, cores[0].shape[-1])
        for core in cores[1 : self.n_in]:
            r, n, s = core.shape
            left = (left @ core.reshape(r, n * s)).reshape(-1, s)
        right = cores[-1].reshape(cores[-1].shape[0], -1)
        for core in reversed(cores[self.n_in : -1]):
            r, n, s = core.shape
            right = (core.reshape(r * n, s) @ right).reshape(r, -1)
        return F.linear(F.linear(x, left.T), right.T, self.bias)


class EinsumLinear(HalvesLinear):
    """TT layer as one torch.einsum of x and all cores; its order is torch's (opt_einsum's, if installed)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.in_modes, self.out_modes = config.in_modes, config.out_modes
        modes = "abcdefghijkl"[: len(self.cores)]
        ranks = "ABCDEFGHIJKLM"[: len(self.cores) + 1]
        terms = ",".join(ranks[k] + modes[k] + ranks[k + 1] for k in range(len(modes)))
        self.equation = f"z{modes[: self.n_in]},{terms}->z{modes[self.n_in :]}"

    def forward(self, x: Tensor) -> Tensor:
        """X W + b of (..., d_model)."""
        y = torch.einsum(self.equation, x.reshape(-1, *self.in_modes), *self.cores)
        return y.reshape(x.shape) + self.bias


def factorized_linear(config: ModelConfig, implementation: str) -> nn.Module:
    """tensorly-torch's FactorizedLinear with exactly the TT cores of ``config``.

    It has no plain TT: its nearest format, BlockTT, pairs an output mode with an input mode in each core.
    With 1 as the other of each pair it is the same train: core k of shape (r, out, in, s), out or in 1.
    """
    from tltorch import FactorizedLinear  # pyright: ignore[reportMissingImports]

    p, q = len(config.in_modes), len(config.out_modes)
    return FactorizedLinear(
        in_tensorized_features=(*config.in_modes, *[1] * q),
        out_tensorized_features=(*[1] * p, *config.out_modes),
        factorization="blocktt",
        rank=config.tt_ranks,  # type: ignore[arg-type]
        implementation=implementation,
    )


class TTMEmbedding(nn.Module):
    """Rows of a TTM table: each token's digits pick a slice of every core, right ones multiplied first."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        shapes = ttm_core_shapes(config.vocab_modes, config.embed_modes, config.ttm_ranks)
        self.cores = nn.ParameterList(torch.zeros(shape) for shape in shapes)
        self.row_modes = config.vocab_modes

    def forward(self, tokens: Tensor) -> Tensor:
        """Rows (..., d_model) of token ids (...,)."""
        rest, digits = tokens.reshape(-1), []
        for mode in reversed(self.row_modes):
            digits.append(rest % mode)
            rest = rest // mode
        picked = zip(reversed(self.cores), digits, strict=True)
        last, *others = (core.transpose(0, 1)[digit] for core, digit in picked)
        row = last.flatten(2)
        for slices in others:
            z, r, n, s = slices.shape
            row = (slices.reshape(z, r * n, s) @ row).reshape(z, r, -1)
        return row.reshape(*tokens.shape, -1)


class TorchModel(nn.Module):
    """The joint intent and slot transformer. Its modules have the names that ttjax gives the parameters."""

    def __init__(self, config: ModelConfig, linear: Linear) -> None:
        super().__init__()
        self.config = config
        d = config.d_model
        make = _linear_maker(config, linear)
        is_dense = linear == "dense"
        self.embed = nn.Embedding(config.vocab_size, d) if is_dense else TTMEmbedding(config)
        self.position = nn.Parameter(torch.zeros(config.seq_len, d))
        self.embed_norm = nn.LayerNorm(d, config.norm_eps)
        self.blocks = nn.ModuleList()
        for _ in range(config.n_blocks):
            parts: dict[str, nn.Module] = {name: make() for name in BLOCK_LINEARS}
            parts |= {name: nn.LayerNorm(d, config.norm_eps) for name in ("norm1", "norm2")}
            self.blocks.append(nn.ModuleDict(parts))
        self.intent_pre = make()
        self.intent_out = nn.Linear(d, config.n_intents)
        self.slot_pre = make()
        self.slot_norm = nn.LayerNorm(d, config.norm_eps)
        self.slot_out = nn.Linear(d, config.n_slots)

    def forward(self, tokens: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of intents (n, n_intents) and slots (n, seq_len, n_slots) of n sentences."""
        place = torch.arange(tokens.shape[-1])
        is_token = (place < length[:, None])[:, None, None]
        x = self.embed_norm(self.embed(tokens) + self.position)
        for block in self.blocks:
            x = self._block(block, x, is_token)
        intent = self.intent_out(torch.tanh(self.intent_pre(x[:, :1])))[:, 0]
        slots = self.slot_norm(F.gelu(self.slot_pre(x), approximate="tanh"))
        return intent, self.slot_out(slots)

    def _block(self, block: Any, x: Tensor, is_token: Tensor) -> Tensor:
        heads = (*x.shape[:2], self.config.n_heads, self.config.head_dim)
        q, k, v = (block[name](x).reshape(heads).transpose(1, 2) for name in "qkv")
        context = F.scaled_dot_product_attention(q, k, v, attn_mask=is_token)
        context = context.transpose(1, 2).reshape(x.shape)
        x = block["norm1"](x + block["o"](context))
        hidden = F.gelu(block["ffn_in"](x), approximate="tanh")
        return block["norm2"](x + block["ffn_out"](hidden))

    def loss(self, tokens: Tensor, length: Tensor, intent: Tensor, slots: Tensor) -> Tensor:
        """Mean over n sentences of intent cross-entropy + slot_weight * mean cross-entropy of the words."""
        intent_logits, slot_logits = self(tokens, length)
        place = torch.arange(tokens.shape[-1])
        is_word = (place > 0) & (place < length[:, None])
        of_token = F.cross_entropy(slot_logits.flatten(0, 1), slots.flatten(), reduction="none")
        of_words = torch.where(is_word, of_token.reshape(slots.shape), 0.0).sum(1) / (length - 1)
        return F.cross_entropy(intent_logits, intent) + self.config.slot_weight * of_words.mean()


def leaves(model: TorchModel) -> dict[str, Tensor]:
    """All parameters by ttjax's dotted name, as views in ttjax's shapes: writing to one changes the model."""
    found = {"embed.position": model.position.detach()}
    for name, module in model.named_modules():
        dotted = name.replace("blocks.", "block")
        for leaf, view in _own_leaves(module).items():
            found[f"{dotted}.{leaf}"] = view
    return found


def load(model: TorchModel, values: Mapping[str, Any]) -> None:
    """Copy ttjax's parameters (flat, by dotted name) into the model.

    Raises:
        ValueError: the names are not the model's.
    """
    own = leaves(model)
    if own.keys() != values.keys():
        raise ValueError(f"torch model: names differ: {sorted(own.keys() ^ values.keys())}")
    for name, view in own.items():
        view.copy_(torch.tensor(np.asarray(values[name])))


def tensors(batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Arguments of ``TorchModel.loss``: fields with a leading axis of sentences, int64 as torch wants ids."""
    tokens, length, intent, slots = (torch.tensor(np.asarray(field)).long() for field in batch)
    return tokens, length, intent, slots


def _linear_maker(config: ModelConfig, linear: Linear) -> Callable[[], nn.Module]:
    if linear not in get_args(Linear):
        raise ValueError(f"unknown linear {linear!r}: expected one of {', '.join(get_args(Linear))}")
    if linear == "dense":
        return lambda: nn.Linear(config.d_model, config.d_model)
    if linear in ("halves", "einsum"):
        return lambda: (HalvesLinear if linear == "halves" else EinsumLinear)(config)
    return lambda: factorized_linear(config, linear)


def _own_leaves(module: Any) -> dict[str, Tensor]:
    """A module's parameters under ttjax's leaf names and shapes, without those of modules inside it."""
    if isinstance(module, nn.LayerNorm):
        return {"scale": module.weight.detach(), "bias": module.bias.detach()}
    if isinstance(module, nn.Linear):
        return {"weight": module.weight.detach().T, "bias": module.bias.detach()}
    if isinstance(module, nn.Embedding):
        return {"table": module.weight.detach()}
    if isinstance(module, (HalvesLinear, TTMEmbedding)):
        found = {f"core{k}": core.detach() for k, core in enumerate(module.cores)}
        return found if isinstance(module, TTMEmbedding) else {**found, "bias": module.bias.detach()}
    if type(module).__name__ == "FactorizedLinear":
        cores = [core.detach() for core in module.weight.factors]
        found = {f"core{k}": core.reshape(core.shape[0], -1, core.shape[-1]) for k, core in enumerate(cores)}
        return {**found, "bias": module.bias.detach()}
    return {}
