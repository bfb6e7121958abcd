"""One table per dialect: what the attributes of each source mean."""
