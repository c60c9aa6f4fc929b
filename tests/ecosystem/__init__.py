"""Other libraries on models with pending rules, against the same on documents migrated by hand."""
