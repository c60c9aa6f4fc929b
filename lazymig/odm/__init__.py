"""The way into MongoEngine: the only folder that touches MongoEngine's private names."""
