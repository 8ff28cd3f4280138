"""Completions: the only place where a model writes."""
