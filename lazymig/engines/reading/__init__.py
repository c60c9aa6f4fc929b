"""Cursors of which each document is taken once, though documents are migrated meanwhile."""
