"""Exports of shops as data sets: which reader knows a file, its SQL, the cleaning of values, and what was left out."""
