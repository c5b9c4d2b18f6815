"""The smallest Django project with django-prometheus."""

import time

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import include, path

settings.configure(
    SECRET_KEY="not one",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django_prometheus"],
    MIDDLEWARE=["django_prometheus.middleware.PrometheusBeforeMiddleware", "django_prometheus.middleware.PrometheusAfterMiddleware"],
)
django.setup()


def work(request):
    time.sleep(float(request.GET.get("seconds", 0)))
    return HttpResponse("ok")


urlpatterns = [path("work", work), path("", include("django_prometheus.urls"))]
application = get_wsgi_application()
