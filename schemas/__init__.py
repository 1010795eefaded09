"""What crosses a process border: records, topics, money and ids. Nothing here does I/O."""
