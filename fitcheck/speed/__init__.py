"""How long: matrix products, attention, memory traffic, dequantization, streaming, overlap. Pure functions."""
