"""The meaning of rules: pure, without a database and without MongoEngine."""
