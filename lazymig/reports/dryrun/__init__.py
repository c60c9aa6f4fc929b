"""Rules tried on copies of documents."""
