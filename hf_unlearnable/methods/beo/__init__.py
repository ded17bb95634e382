"""BEO: its settings, its embeddings, its ascent."""
