"""What runs inside vLLM's own environment; nothing here is imported by the rest of the package."""
