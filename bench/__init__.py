"""Timed passes on real hardware: protocol, meters, workloads and layer streaming. The only room besides memory/trace that imports torch."""
