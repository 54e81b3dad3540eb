"""Alembic's environment: the connection is handed in by service_hub.store.database."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, transactional_ddl=True)
context.run_migrations()
