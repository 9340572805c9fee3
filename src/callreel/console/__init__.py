"""Web pages for the person who listens."""
