"""Identity and trust: keys, certificates, tokens, signed events, TLS; bytes in, bytes out."""
