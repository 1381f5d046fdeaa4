"""The contraction flows of one TT linear layer: different orders, equal in exact arithmetic.

x (tokens, d_in) times W = A B with A = G_1...G_p (d_in, bond) and B = G_{p+1}...G_{p+q} (bond, d_out).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import opt_einsum
from jaxtyping import Array, Float

from ttjax.errors import UserError
from ttjax.products import kept_transpose
from ttjax.taps import Tap, no_tap
from ttjax.tt import Cores, merge_left, merge_right, to_dense

Flow = Literal["dense", "right_to_left", "bidirectional", "planned"]
X = Float[Array, "tokens d_in"]
Y = Float[Array, "tokens d_out"]


def contract(x: X, cores: Cores, n_in: int, flow: Flow, tap: Tap = no_tap) -> Y:
    """The product y = x W in the order ``flow``; the first ``n_in`` cores carry the input modes.

    Raises:
        UserError: an unknown flow.
    """
    return FLOWS[checked_flow(flow)](x, cores, n_in, tap)


def checked_flow(flow: str) -> Flow:
    """The contraction flow of that name.

    Raises:
        UserError: there is none.
    """
    if flow not in FLOWS:
        raise UserError(f"unknown flow {flow!r}: expected one of {', '.join(FLOWS)}")
    return cast(Flow, flow)


def dense(x: X, cores: Cores, n_in: int, tap: Tap = no_tap) -> Y:
    """Forms W (d_in, d_out) and multiplies: the cost of the uncompressed layer, plus the forming."""
    return x @ to_dense(cores, n_in)


def right_to_left(x: X, cores: Cores, n_in: int, tap: Tap = no_tap) -> Y:
    """Lets x meet one core at a time: the order of arXiv 2501.06663's baseline (section III).

    On the way in, the state (tokens, r_{k-1}, n_k, modes still to come) loses a mode at each core; on the
    way out, the state (tokens, modes made, r_{k-1}) gains one.
    """
    tokens = x.shape[0]
    in_modes = [core.shape[1] for core in cores[:n_in]]
    state = x
    for k, core in enumerate(cores[:n_in]):
        r, n, s = core.shape
        state = state.reshape(tokens, r, n, prod(in_modes[k + 1 :]))
        state = jnp.einsum("trnm,rns->tsm", state, core)
    for core in cores[n_in:]:
        r, n, s = core.shape
        state = state.reshape(-1, r) @ core.reshape(r, n * s)
    return state.reshape(tokens, prod(core.shape[1] for core in cores[n_in:]))


def bidirectional(x: X, cores: Cores, n_in: int, tap: Tap = no_tap) -> Y:
    """Merges the two halves first, independently of x, then x A B; W is never formed (section III, BTT).

    The merged halves are what the backward pass uses again. Taps: ``left`` A, ``right`` B, ``bond`` x A.
    """
    return through_halves(x, merge_halves(cores, n_in), tap)


class Halves(NamedTuple):
    """W = A B of one layer: ``left`` A (d_in, bond), ``right`` B (bond, d_out)."""

    left: Float[Array, "*layers d_in bond"]
    right: Float[Array, "*layers bond d_out"]


def merge_halves(cores: Cores, n_in: int) -> Halves:
    """The two halves of a layer, merged from its cores."""
    return Halves(merge_left(cores[:n_in])[-1], merge_right(cores[n_in:])[-1])


def merge_all_halves(layers: Sequence[Cores], n_in: int) -> list[Halves]:
    """The halves of several layers of the same shapes.

    One product merges a core of all layers: by itself each is so small that it takes longer to call than to
    do. Stacked here and split again, so that every layer's cores stay arrays of their own.
    """
    stacked = [jnp.stack(cores) for cores in zip(*layers, strict=True)]
    merged = jax.vmap(lambda *cores: merge_halves(cores, n_in))(*stacked)
    halves = ([half[0] for half in jax.lax.split(all_layers, (1,) * len(layers))] for all_layers in merged)
    return [Halves(left, right) for left, right in zip(*halves, strict=True)]


def through_halves(x: X, halves: Halves, tap: Tap = no_tap) -> Y:
    """The product y = (x A) B. Taps: ``left`` A, ``right`` B, ``bond`` x A."""
    left, right = tap("left", halves.left), tap("right", halves.right)
    # A is tall and narrow: transposed, its gradient has long rows, and x's gradient moves nothing.
    bond = tap("bond", x @ kept_transpose(left).T)
    return bond @ right


class Plan(NamedTuple):
    """An order of contraction of x and the cores, as einsum takes it and, in ``order``, as one writes it.

    shapes: of the operands, x with its modes apart and the cores without the ranks of 1 at both ends.
    """

    subscripts: str
    shapes: tuple[tuple[int, ...], ...]
    path: list[tuple[int, ...]]
    order: str


def plan(tokens: int, core_shapes: Sequence[tuple[int, ...]], n_in: int) -> Plan:
    """The order with the fewest multiplications forward, by opt_einsum's dynamic programming.

    It depends on the number of tokens, and the backward pass, autodiff's, isn't searched for.
    """
    n = len(core_shapes)
    token, *symbols = map(opt_einsum.get_symbol, range(2 * n))
    modes, bonds = symbols[:n], ["", *symbols[n:], ""]
    terms = [token + "".join(modes[:n_in]), *(bonds[k] + modes[k] + bonds[k + 1] for k in range(n))]
    subscripts = f"{','.join(terms)}->{token}{''.join(modes[n_in:])}"
    of_modes = tuple(shape[1] for shape in core_shapes)
    first, *middle, last = core_shapes
    shapes = ((tokens, *of_modes[:n_in]), first[1:], *middle, last[:-1])
    path, _ = opt_einsum.contract_path(subscripts, *shapes, shapes=True, optimize="dp")
    named = list(enumerate(("x", *(f"G{k + 1}" for k in range(n)))))
    for step in path:
        parts = sorted(named.pop(i) for i in sorted(step, reverse=True))
        named.append((parts[0][0], f"({' '.join(name for _, name in parts)})"))
    return Plan(subscripts, shapes, list(path), named[0][1][1:-1])


def planned(x: X, cores: Cores, n_in: int, tap: Tap = no_tap) -> Y:
    """Contracts in the order that ``plan`` finds for these shapes.

    At the paper's sizes and 32 tokens as bidirectional does, but the two cores at the bond stay apart.
    """
    found = plan(x.shape[0], [core.shape for core in cores], n_in)
    operands = [array.reshape(shape) for array, shape in zip((x, *cores), found.shapes, strict=True)]
    y = jnp.einsum(found.subscripts, *operands, optimize=found.path)
    return y.reshape(y.shape[0], prod(y.shape[1:]))


FLOWS: dict[str, Callable[[X, Cores, int, Tap], Y]] = {
    "dense": dense,
    "right_to_left": right_to_left,
    "bidirectional": bidirectional,
    "planned": planned,
}
