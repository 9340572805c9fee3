"""Is this machine fit to serve? Looks, tries, and leaves nothing behind."""
