"""The command line, one file a command."""

import atexit
import gc

# What a command imports and works out lives until it ends: looking through it for cycles, every 700 objects by default,
# takes a tenth of its time.
gc.set_threshold(1_000_000)
# the system takes memory back at the end quicker than the collector looks for what nothing holds any more
atexit.register(gc.freeze)
