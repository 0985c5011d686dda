"""How long: matrix products, attention, memory traffic, dequantization, streaming and how they overlap. Pure functions."""
