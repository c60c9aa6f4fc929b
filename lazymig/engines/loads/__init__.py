"""A batch of loaded documents, brought up to date and read again."""
