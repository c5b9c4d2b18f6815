# FastAPI with three libraries, gunicorn with the hooks of gunicorn.conf.py, Django.
python=$cache/python3
[[ -e $python/done ]] || { python3 -m venv "$python" && "$python/bin/pip" -q install fastapi uvicorn prometheus-fastapi-instrumentator starlette_exporter starlette-prometheus gunicorn django django-prometheus && touch "$python/done"; }
of() { "$python/bin/pip" show "$1" 2>/dev/null | awk -v n="$1" '/^Version:/ {print n " " $2}'; }

for one in uvicorn:prometheus-fastapi-instrumentator starlette-exporter:starlette_exporter starlette-prometheus:starlette-prometheus; do
  port=$(free)
  MODE=${one%%:*} "$python/bin/uvicorn" --app-dir "$here" --port "$port" --log-level warning app:app & pids+=($!)
  await curl -fsS "http://127.0.0.1:$port/metrics"
  record "${one%%:*}" "$(of uvicorn), $(of "${one#*:}")" "http://127.0.0.1:$port" "http://127.0.0.1:$port/work"
done

port=$(free) metrics=$(free)
mkdir "$work/gunicorn" "$work/django"
METRICS_PORT=$metrics PROMETHEUS_MULTIPROC_DIR=$work/gunicorn "$python/bin/gunicorn" -c "$here/gunicorn.conf.py" --chdir "$here" -w 2 -t 300 -b "127.0.0.1:$port" --log-level warning wsgi:app & pids+=($!)
await curl -fsS "http://127.0.0.1:$port/work"
record gunicorn "$(of gunicorn)" "http://127.0.0.1:$metrics" "http://127.0.0.1:$port/work"

port=$(free)
PROMETHEUS_MULTIPROC_DIR=$work/django "$python/bin/gunicorn" --chdir "$here" -w 2 -t 300 -b "127.0.0.1:$port" --log-level warning django_app:application & pids+=($!)
await curl -fsS "http://127.0.0.1:$port/metrics"
record django "$(of django), $(of django-prometheus), $(of gunicorn)" "http://127.0.0.1:$port" "http://127.0.0.1:$port/work"
