"""A Django project in one file: settings, views, URLs and the WSGI application."""

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, JsonResponse
from django.urls import path

from tests.e2e.apps.twins import record, report, sync_broker, sync_results
from tests.e2e.setting import SETTING
from tests.waiting import TIMEOUT

settings.configure(
    ROOT_URLCONF=__name__, SECRET_KEY="tests only", ALLOWED_HOSTS=["127.0.0.1"], LOGGING_CONFIG=None
)


def start(request: HttpRequest, steps: int) -> JsonResponse:
    return JsonResponse({"id": sync_broker.kicker(report).kiq(steps).task_id})


def status(request: HttpRequest, task_id: str) -> JsonResponse:
    if sync_results.is_result_ready(task_id):
        return JsonResponse({"result": sync_results.get_result(task_id).return_value})
    progress = sync_results.get_progress(task_id)
    return JsonResponse({"step": progress.meta if progress else 0})


def note(request: HttpRequest, what: str) -> JsonResponse:
    task = sync_broker.kicker(record).kiq(what)
    return JsonResponse(
        {"result": task.wait_result(timeout=TIMEOUT, check_interval=0.05).return_value}
    )


urlpatterns = [
    path("start/<int:steps>", start),
    path("status/<task_id>", status),
    path("note/<what>", note),
]

django.setup()
application = WSGIHandler()

if SETTING.extras.get("at_import"):
    # With --preload, the parent of all workers runs this.
    sync_broker.kicker(record).kiq("at import").wait_result(timeout=TIMEOUT)
