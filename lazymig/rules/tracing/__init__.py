"""A rule read like a program whose inputs are not known: what it may set, and may read."""
