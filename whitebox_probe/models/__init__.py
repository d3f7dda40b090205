"""Model families: how each is built, and where its named sites are."""
