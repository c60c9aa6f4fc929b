"""Rules as stages."""
