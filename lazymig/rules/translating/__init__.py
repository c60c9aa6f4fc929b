"""Computed rules as server-side updates: their source is read, and nothing of it is run."""
