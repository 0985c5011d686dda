"""Language models: architecture from GGUF metadata or config.json, tensor tables, shapes known by name."""
