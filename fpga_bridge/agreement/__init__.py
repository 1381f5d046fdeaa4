"""When two sides agree, and the first place where they part.

Locked steps, tolerances from the float64 truth, and the tables that tell of them.
"""
