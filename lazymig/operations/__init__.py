"""Bulk runs in production: the runs, their journal, throttling, and backups."""
