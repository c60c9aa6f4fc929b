"""Rules meet MongoDB, through PyMongo alone."""
