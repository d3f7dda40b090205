"""What every other part stands on: errors, file writing, discovery, checks of shapes."""
