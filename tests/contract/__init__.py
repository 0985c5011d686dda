"""One suite over every registered runtime, and over a toy one that registers through the public seam."""
