"""The limits of what a bulk run costs the database."""
