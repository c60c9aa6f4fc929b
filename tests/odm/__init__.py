"""Tests of every door through which MongoEngine loads documents."""
