"""Records from what people already have: the outputs of other tools, each field mapped or reported as missing."""
