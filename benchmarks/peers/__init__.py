"""What a shop would take instead, fitted and measured beside the towers."""
