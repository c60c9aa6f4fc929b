"""What a bulk run may cost the database."""
