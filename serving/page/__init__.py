"""The page that the server shows at `/`: plain files, which it reads by name."""
