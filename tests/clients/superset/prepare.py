"""Makes Superset's metadata database, with the user admin, in the folder that is named."""

import logging
import os
import sys
from pathlib import Path

os.environ["SUPERSET_HOME"] = sys.argv[1]
os.environ["SUPERSET_CONFIG_PATH"] = str(Path(__file__).resolve().parent / "superset_config.py")
logging.disable(logging.WARNING)

import flask_migrate  # noqa: E402
import superset  # noqa: E402
from superset.app import create_app  # noqa: E402

app = create_app()
with app.app_context():
    from superset.extensions import appbuilder, db

    flask_migrate.upgrade(directory=str(Path(superset.__file__).parent / "migrations"))
    appbuilder.add_permissions(update_perms=True)
    appbuilder.sm.sync_role_definitions()
    role = appbuilder.sm.find_role("Admin")
    appbuilder.sm.add_user("admin", "Test", "Admin", "admin@example.com", role, password="admin")
    db.session.commit()
