"""How many bytes, where and when: offload modes, activations, the allocator, host memory. Pure functions, no I/O."""
