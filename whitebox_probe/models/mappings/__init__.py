"""The mappings of other libraries' modules that come with the package, one a YAML file."""
