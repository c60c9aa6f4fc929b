"""The pictures and outputs of the README, which is the first screen of the pages as well."""
