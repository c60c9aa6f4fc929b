"""Bulk runs: their options, their steps, their workers, their progress."""
