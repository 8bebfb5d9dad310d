"""The training of feature rankers, one module a kind, and the choice between the kinds."""
