"""Timed passes on real hardware: protocol, meters, workloads and layer streaming. Needs the extra ``bench``."""
