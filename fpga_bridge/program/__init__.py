"""A training step as instructions for the kernel's units: generated, scheduled, and named for the trace.

The next stage of the model becomes instructions here.
"""
