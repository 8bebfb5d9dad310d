"""The feature ranker: orders the candidates of a request by a matrix of numbers that say what is known of each."""
