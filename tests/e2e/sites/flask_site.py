"""A Flask application."""

from typing import Any

from flask import Flask

from tests.e2e.apps.twins import record, report, sync_broker, sync_results
from tests.waiting import TIMEOUT

app = Flask(__name__)


@app.get("/start/<int:steps>")
def start(steps: int) -> dict[str, Any]:
    return {"id": sync_broker.kicker(report).kiq(steps).task_id}


@app.get("/status/<task_id>")
def status(task_id: str) -> dict[str, Any]:
    if sync_results.is_result_ready(task_id):
        return {"result": sync_results.get_result(task_id).return_value}
    progress = sync_results.get_progress(task_id)
    return {"step": progress.meta if progress else 0}


@app.get("/note/<what>")
def note(what: str) -> dict[str, Any]:
    task = sync_broker.kicker(record).kiq(what)
    return {"result": task.wait_result(timeout=TIMEOUT, check_interval=0.05).return_value}
