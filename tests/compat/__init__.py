"""The package beside the oldest and the newest versions of the libraries that it stands on."""
