"""Images: reading them, checking them, taking batches."""
