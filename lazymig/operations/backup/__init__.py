"""Backups of documents on disk before a bulk run writes them, and their restore."""
