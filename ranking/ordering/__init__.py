"""From scores to an order: blend, gate, permutation, Platt scaling."""
