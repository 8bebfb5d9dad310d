"""Text: what a model reads of an item or a shopper, words, spelling."""
