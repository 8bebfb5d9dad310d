"""What a request reads of a shopper beyond the release: the events that were recorded since."""
