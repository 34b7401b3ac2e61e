"""What users see, on real servers."""
