"""What identity answers, by topic."""
