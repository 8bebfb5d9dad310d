"""Other libraries, trained and measured on the same split."""
