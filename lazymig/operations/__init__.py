"""What running rules over a whole collection in production needs."""
