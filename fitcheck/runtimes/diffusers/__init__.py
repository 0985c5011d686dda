"""Image and video pipelines under diffusers."""
