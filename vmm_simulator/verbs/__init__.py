"""The verbs of the fabric driver: what each does to clouds, machines and relationships."""
