"""Tests of the engines, on a real server where MongoDB decides."""
