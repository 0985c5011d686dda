"""Does it fit, what binds, what to change, which software it needs, and how we know."""
