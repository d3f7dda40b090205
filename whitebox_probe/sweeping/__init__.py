"""Many models × data × settings in one call that resumes: `wp.sweep` and `whitebox-probe sweep`."""
