"""Forward passes: the only place where batches are made and run."""
