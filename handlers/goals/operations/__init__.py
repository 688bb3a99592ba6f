"""What goals answer: about goals themselves, and about their plans."""
