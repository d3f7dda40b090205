"""Names and shapes of files turned into ours: dictionaries in, dictionaries out."""
