"""Folders of exported embeddings: Parquet, NumPy arrays, and the layout of clip-retrieval."""
