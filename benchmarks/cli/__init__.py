"""The commands `shortlist bench`."""
