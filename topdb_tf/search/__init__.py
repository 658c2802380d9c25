"""A search index of embeddings on disk: exact, or approximate by FAISS."""
