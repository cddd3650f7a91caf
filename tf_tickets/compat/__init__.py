"""What is private of other libraries and must be touched; nothing else touches it."""
