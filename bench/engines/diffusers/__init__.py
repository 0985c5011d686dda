"""Diffusers' own pipelines, built from configurations, with synthetic or real weights."""
