"""Tests of the demonstration and its server."""
