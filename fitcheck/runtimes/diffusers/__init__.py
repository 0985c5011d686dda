"""diffusers: image and video pipelines, whole on the card or moved by its own offload switches."""
