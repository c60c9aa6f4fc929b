"""The querysets of models with the mixin."""
