"""Rules as Python source: literals, methods, and the files of handlers."""
