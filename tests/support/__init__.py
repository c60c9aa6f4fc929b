"""What several test modules share: the server, the command log, the registry of models."""
