"""MongoEngine's own test suite, with lazymig in every model that it defines: `make conformance`."""
