"""The pure inventory of a VMM server."""
