"""Reports: they read the database and never write to it."""
