"""Image and video pipelines: text encoders, one or two denoisers and a VAE, each with its own tensors and type."""
