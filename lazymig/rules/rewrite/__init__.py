"""Queries over new shapes, rewritten for the documents as they are stored."""
