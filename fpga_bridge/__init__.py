"""fpga_bridge: the kernel's memory map, its devices, and its step-by-step agreement with JAX."""
