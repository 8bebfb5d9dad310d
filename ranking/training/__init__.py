"""Training of the rerankers: pairs, losses, loops."""
