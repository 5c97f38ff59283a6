"""What runs write for people and other programs to read: JSON lines, appended, readable while they are written."""
