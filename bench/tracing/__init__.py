"""Traces of real modules on fake tensors: what they allocate and free, in order, without memory and without a card."""
