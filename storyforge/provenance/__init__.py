"""What a file says of how it was made: marks, recipes, signatures."""
