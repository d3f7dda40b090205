"""Tables, where they came from, and what is made of them."""
