"""The test suite: the same folders as lazymig, one file per room."""
