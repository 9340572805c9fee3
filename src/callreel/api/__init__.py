"""The REST API: resources, the two dialects, errors, pages, media."""
