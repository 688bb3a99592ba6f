"""Runs SQL as it stands, several statements as one text, without SQLAlchemy reading it."""

from alembic import op


def run(sql: str) -> None:
    """Run the statements inside the migration's transaction."""
    op.get_bind().exec_driver_sql(sql.replace("%", "%%"))  # the driver reads % as a placeholder
