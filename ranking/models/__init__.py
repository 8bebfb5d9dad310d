"""Rerankers as they serve: cross-encoder, late interaction, their tokens."""
