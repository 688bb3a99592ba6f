"""What workflows answer."""
