"""MongoEngine's doors: the only folder that touches MongoEngine's private names."""
