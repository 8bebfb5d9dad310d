"""One catalogue of what shoppers and the owners of shops read, in every language there is."""
