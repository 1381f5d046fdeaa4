"""Whether it fits: memories against the U50's two dies, the cheapest plan that does, synthesis as the oracle.

What lies where is fpga_bridge.memory's.
"""
