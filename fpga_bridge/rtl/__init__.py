"""Rung 5 of the verification ladder: pipelines of the kernel's own C++ as Verilog, bit for bit as csim."""
