"""Encoders and rerankers measured: speed, recall, training."""
