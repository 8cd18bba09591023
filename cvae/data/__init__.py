"""Reading and validating images, and drawing batches from them."""
