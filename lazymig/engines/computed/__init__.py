"""Updates computed from a document in Python."""
