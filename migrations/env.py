"""Runs the revisions, which are plain SQL; `python -m bus migrate` gives the address."""

from alembic import context
from sqlalchemy import create_engine, pool

from migrations import grants

MIGRATIONS_LOCK = 0x53504D


def main() -> None:
    """Run the revisions in one transaction, one migrator at a time."""
    url = context.config.attributes["url"].replace("postgres://", "postgresql://")
    engine = create_engine(
        url.replace("postgresql://", "postgresql+psycopg://"), poolclass=pool.NullPool
    )
    with engine.connect() as connection:
        context.configure(connection=connection)
        with context.begin_transaction():
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATIONS_LOCK})")
            context.run_migrations()
            grants.apply(connection)


main()
