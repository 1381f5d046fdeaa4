"""How long a step takes: a model of cycles, area and energy, from trips that csim counts.

No figure here comes from Vitis or from a card.
"""
