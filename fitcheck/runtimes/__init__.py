"""What runs a model: one folder a runtime, behind the seam of ``base``."""
