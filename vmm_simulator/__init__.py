"""A VMM server that is not there, with its Hyper-V hosts and guests; the bytes are real."""
