"""A workload's tensors in the order in which the program makes and drops them, run through torch's caching allocator.

The functions here mirror SenseNova-U1's code (and ``bench``'s, which a test holds them to) with storages in place of
tensors: a storage dies with its last reference, as a tensor does. No torch is needed and nothing is fitted.
"""
