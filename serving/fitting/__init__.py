"""What is fitted on folds: fusion, blend, ranker."""
