"""A real llama.cpp on a GGUF file."""
