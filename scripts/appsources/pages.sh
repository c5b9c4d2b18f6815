# Servers that are in no registry: a page in the format of their documentation, with as many in flight as this small server has. That says
# what the preset makes of the page, and nothing of the program.
for page in "$here"/pages/*.txt; do
  port=$(free)
  python3 "$here/replay.py" "$port" "$page" & pids+=($!)
  await curl -fsS "http://127.0.0.1:$port/work"
  record "$(basename "$page" .txt)" "in no registry, so not run: the page of its documentation, replayed" "http://127.0.0.1:$port" "http://127.0.0.1:$port/work"
done
