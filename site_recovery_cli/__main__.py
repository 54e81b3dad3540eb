"""Makes `python -m site_recovery_cli` the same as `site-recovery`."""

from site_recovery_cli.cli import main

main()
