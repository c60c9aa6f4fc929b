"""A query: what it asks, whether a document matches it, which paths it reads. Pure."""
