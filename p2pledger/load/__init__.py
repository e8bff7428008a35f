"""What is thrown at a network: trades, when they fall due, and the open-loop generator that follows each to its end."""
