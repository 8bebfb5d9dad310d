"""Speed, recall and memory of vector indexes, ours and other libraries'."""
