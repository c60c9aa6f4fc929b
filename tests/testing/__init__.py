"""The test kit, used as users use it: by plain calls, and by pytest runs within these tests."""
