"""The only persistence of the hub: SQLAlchemy Core tables and Alembic migrations."""
