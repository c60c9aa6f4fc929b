"""Rules whose effects outside of the document happen once: claims, and who waits for them."""
