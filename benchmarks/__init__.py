"""Speed and size, side by side with peers."""
