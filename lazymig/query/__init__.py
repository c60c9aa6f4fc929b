"""The queries: what they ask, whether a document matches, which paths they read. Pure."""
