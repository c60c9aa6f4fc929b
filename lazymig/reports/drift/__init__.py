"""Stored documents compared with their model."""
