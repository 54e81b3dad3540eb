"""Set-up of the provider beside a VMM server: checks, package, installation (seed, step 3)."""
