"""The sections of a report, one file each, found by place: `SECTION` says what it is."""
