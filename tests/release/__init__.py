"""What is done before a release: built, checked, installed alone, and run without a network."""
