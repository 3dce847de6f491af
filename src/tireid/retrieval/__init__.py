"""Embeddings → similarity in blocks → metrics and results, in bounded memory."""

from tireid.retrieval.evaluation import embedding_values, evaluate_embeddings
from tireid.retrieval.gallery import Gallery
from tireid.retrieval.top_k import top_k

__all__ = ["Gallery", "embedding_values", "evaluate_embeddings", "top_k"]
