"""Verilog of the float32 operators of ``operators.x``, made by XLS, a compiler for hardware.

It places the registers of an operator that is to take so many cycles; nothing of it is AMD's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType

from fpga_bridge.rtl.dataflow import FLOAT_TESTS, OPERATORS
from ttjax import UserError
from ttjax.output import replace_file, user_cache

SOURCE = "operators.x"
# For where to cut: no model of an FPGA comes with XLS. The cuts move no bit.
DELAY_MODEL = "asap7"


def xls() -> ModuleType:
    """The binding of XLS.

    Raises:
        UserError: it is not installed.
    """
    try:
        return import_module("xls.c_api")
    except ImportError as error:
        raise UserError(
            f"no XLS, which makes the operators: expected the package xls-python ({error}); install it with"
            " pip install 'ttjax-fpga[rtl]', or run make test-rtl, which does (Linux on x86-64)"
        ) from None


def xls_version() -> str:
    """The version of XLS's binding.

    Raises:
        UserError: it is not installed.
    """
    xls()
    return metadata.version("xls-python")


def operator_modules(cycles: Mapping[str, int]) -> str:
    """Verilog of a module for every operator, named as in ``fpga_bridge.rtl.dataflow``.

    Ports: clk, x, y, out; a result is there as many cycles after its operands as ``cycles`` says of its kind
    (add, mul, div, sqrt), at least one. Comparisons and sitofp have no clk and take none.

    Kept in the user's cache by content: the source, XLS's version, the cycles.

    Raises:
        UserError: XLS is not installed.
    """
    tool = xls()
    text = Path(__file__).with_name(SOURCE).read_text()
    made_of = json.dumps([xls_version(), text, dict(cycles)])
    kept = user_cache() / "rtl" / f"{hashlib.sha256(made_of.encode()).hexdigest()[:32]}.v"
    if kept.is_file():
        return kept.read_text()
    code = tool.convert_dslx_to_ir(text, SOURCE, "operators")
    pipelined = [_module(tool, code, name, cycles[kind]) for name, kind in OPERATORS.items()]
    combinational = [_module(tool, code, name, 0) for name in (*sorted(FLOAT_TESTS), "sitofp")]
    modules = "\n".join([*pipelined, *combinational])
    replace_file(kept, modules.encode(), make_folder=True)
    return modules


def _module(tool: ModuleType, code: str, name: str, cycles: int) -> str:
    top = tool.mangle_dslx_name("operators", name)
    package = tool.Package.parse_ir(tool.optimize_ir(code, top))
    options = {"top": top, "module_name": name, "use_system_verilog": False}
    if cycles:
        options |= {"generator": "pipeline", "pipeline_stages": cycles, "delay_model": DELAY_MODEL}
        # With a register behind the last stage there are as many as stages.
        options |= {"with_delay_model": True, "flop_inputs": False, "flop_outputs": True}
    return package.schedule_and_codegen(**options).get_verilog_text()
