"""Tests of what happens when servers, connections, locks or other writers interfere."""
