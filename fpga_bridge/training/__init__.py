"""Whole epochs trained on a device, beside JAX's own of the same run.

What fpga-bridge train does.
"""
