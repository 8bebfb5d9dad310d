"""Text: rendering of items and shoppers for models, words, spelling, typos."""
