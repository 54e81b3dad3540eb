"""How fast, how small and how ready the job engine is, beside a general one."""
