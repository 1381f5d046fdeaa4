"""What can run the kernel: csim, a U50 through XRT, and JAX behind the same interface as reference.

The next backend is a module here and a name in by_name.
"""
