"""Families of models: how one is recognized, what its architecture numbers mean, which ones are known by name."""
