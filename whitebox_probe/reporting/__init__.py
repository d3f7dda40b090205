"""Reports to hand over: one page that stands by itself, and Markdown for a pull request."""
