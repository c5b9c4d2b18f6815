# Express with a gauge made of prom-client, as app.js has it.
node=$cache/node
[[ -e $node/done ]] || { mkdir -p "$node" && npm install --silent --no-audit --no-fund --prefix "$node" prom-client express >&2 && touch "$node/done"; }
cp "$here/app.js" "$node/app.js"
port=$(free)
PORT=$port node "$node/app.js" & pids+=($!)
await curl -fsS "http://127.0.0.1:$port/metrics"
record prom-client "$(node -p "['express', 'prom-client'].map(n => n + ' ' + JSON.parse(fs.readFileSync('$node/node_modules/' + n + '/package.json')).version).join(', ')")" "http://127.0.0.1:$port" "http://127.0.0.1:$port/work"
