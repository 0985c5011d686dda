"""What can be measured: one folder a runtime, behind the seam of ``base``."""
