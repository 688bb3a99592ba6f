"""${message}

Why: …
Safe while the old code runs: …
"""

from migrations.statements import run

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    run("")


def downgrade() -> None:
    """Undo."""
    run("")
