"""The command line, one file a command."""

import gc

# What a command imports and works out lives until it ends: looking through it for cycles, every 700 objects by default,
# takes a tenth of its time.
gc.set_threshold(100_000)
