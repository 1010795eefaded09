"""What the door decides, without I/O, clock or environment."""
