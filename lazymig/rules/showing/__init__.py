"""The rules as aggregation stages, which show each stored document as the rules will leave it."""
