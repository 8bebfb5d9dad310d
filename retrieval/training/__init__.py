"""Training of the towers: pairs, batches, losses, loops."""
