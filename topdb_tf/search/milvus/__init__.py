"""Indexes in collections of Milvus, a vector database for many machines."""
