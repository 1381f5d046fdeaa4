"""Where everything lies on chip: parameters and temporaries, who shares a memory with whom, in which blocks.

It knows the model and the card's blocks, and nothing of what computes on them.
"""
