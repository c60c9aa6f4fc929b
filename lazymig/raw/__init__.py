"""BSON values and documents as they are: types, paths, differences. No rule, no database."""
