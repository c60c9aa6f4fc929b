"""What a rule means: pure, without a database and without MongoEngine."""
