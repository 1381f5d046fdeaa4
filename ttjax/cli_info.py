"""The command `ttjax info`: how large a model is and what one of its linear layers costs, by flow.

All figures come from ``ttjax.costs``, which counts them in the code that runs.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated

import tyro
from rich.table import Table

from ttjax.cli_model import ModelArgs
from ttjax.config import ModelConfig
from ttjax.contraction import checked_flow, plan
from ttjax.costs import MEGABYTE, LinearCosts, ModelCosts, linear_layer_costs, model_costs
from ttjax.output import Output
from ttjax.params import linear_core_shapes


@dataclass(frozen=True)
class Info:
    """Show a model's size, and the costs of one of its linear layers by contraction flow.

    Examples: ttjax info --preset enc4 --format dense
              ttjax info --preset enc2 --rank 8 --json info.json
    """

    model: Annotated[ModelArgs, tyro.conf.arg(name="")] = field(default_factory=ModelArgs)
    flow: str | None = None
    """Show this flow alone beside the uncompressed layer: dense (forms W from the cores), right_to_left,
    bidirectional or planned (of fewest multiplications forward). Default: all."""
    json: str | None = None
    """File for the figures as JSON; - for standard output."""

    def run(self) -> int:
        """Print the tables, write the JSON; returns exit status 0."""
        out = Output(self.json)
        config = self.model.config()
        size = model_costs(config)
        layer = _chosen(linear_layer_costs(config), self.flow)
        out.console.print(_size_table(self.model.preset, config, size))
        out.console.print(_layer_table(config, layer))
        for line in _comparisons(config, layer):
            out.say(line)
        out.write_json(
            {
                "preset": self.model.preset,
                "format": config.format,
                "parameters": size.parameters,
                "bytes": size.bytes,
                "multiplications": {flow: costs.multiplications for flow, costs in layer.items()},
                "stored": {flow: costs.stored for flow, costs in layer.items()},
                "backward_multiplications": {flow: costs.backward for flow, costs in layer.items()},
                "parts": size.parts,
                "config": dataclasses.asdict(config),
            }
        )
        return 0


def _chosen(layer: dict[str, LinearCosts], flow: str | None) -> dict[str, LinearCosts]:
    if flow is None:
        return layer
    chosen = "dense_from_cores" if checked_flow(flow) == "dense" else flow
    return {name: costs for name, costs in layer.items() if name in ("dense", chosen)}


def _size_table(preset: str, config: ModelConfig, size: ModelCosts) -> Table:
    table = Table("part", title=f"{preset}, {config.format}, {config.n_blocks} blocks")
    table.add_column("parameters", justify="right")
    table.add_column("bytes", justify="right")
    table.add_column("MB (10^6 bytes)", justify="right")
    bytes_each = size.bytes // size.parameters
    for part, count in size.parts.items():
        table.add_row(part, f"{count:,}", f"{count * bytes_each:,}", f"{count * bytes_each / MEGABYTE:.2f}")
    table.add_section()
    table.add_row("all", f"{size.parameters:,}", f"{size.bytes:,}", f"{size.bytes / MEGABYTE:.2f}")
    return table


def _layer_table(config: ModelConfig, layer: dict[str, LinearCosts]) -> Table:
    table = Table(title=f"One linear layer, {config.seq_len} tokens")
    table.add_column("flow", no_wrap=True)
    for heading in (
        "multi-\nplications",
        "times\nfewer",
        "in the\nbackward",
        "numbers\nstored",
        "times\nfewer",
    ):
        table.add_column(heading, justify="right")
    dense = layer["dense"]
    for flow, costs in layer.items():
        table.add_row(
            flow,
            f"{costs.multiplications:,}",
            f"{dense.multiplications / costs.multiplications:.2f}×",
            f"{costs.backward:,}",
            f"{costs.stored:,}",
            f"{dense.stored / costs.stored:.2f}×",
        )
    return table


def _times(more: int, fewer: int) -> str:
    """How many times fewer, or more where the second is in truth the larger."""
    return f"{more / fewer:.2f}× fewer" if more >= fewer else f"{fewer / more:.2f}× more"


def _comparisons(config: ModelConfig, layer: dict[str, LinearCosts]) -> list[str]:
    """The paper's flow, bidirectional, against those it is compared with, and the planned order, in words."""
    lines = []
    for flow, other in (
        ("bidirectional", "dense"),
        ("bidirectional", "right_to_left"),
        ("planned", "bidirectional"),
    ):
        if flow in layer and other in layer:
            more, fewer = layer[other], layer[flow]
            multiplications = _times(more.multiplications, fewer.multiplications)
            stored = _times(more.stored, fewer.stored)
            lines.append(
                f"{flow}: {multiplications} multiplications and {stored} stored numbers than {other}"
            )
    if "planned" in layer:
        found = plan(config.seq_len, linear_core_shapes(config), len(config.in_modes))
        lines.append(f"planned: y = {found.order}")
    return lines
