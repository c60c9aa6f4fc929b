"""The program `lazymig`, called as its users call it."""
