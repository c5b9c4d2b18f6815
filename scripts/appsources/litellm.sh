# The LiteLLM proxy before a model that answers late.
litellm=$cache/litellm
[[ -e $litellm/done ]] || { python3 -m venv "$litellm" && "$litellm/bin/pip" -q install 'litellm[proxy]' prometheus_client && touch "$litellm/done"; }
port=$(free) model=$(free)
python3 "$here/model.py" "$model" & pids+=($!)
cat >"$work/litellm.yaml" <<YAML
model_list:
  - model_name: model
    litellm_params: {model: openai/model, api_key: none, api_base: "http://127.0.0.1:$model/v1"}
litellm_settings:
  callbacks: [prometheus]
YAML
key=sk-$(head -c 30 /dev/urandom | base64 | tr -d '+/=')
printf %s "$key" >"$work/litellm.key"
LITELLM_MASTER_KEY=$key LITELLM_LOCAL_MODEL_COST_MAP=True "$litellm/bin/litellm" --config "$work/litellm.yaml" --host 127.0.0.1 --port "$port" >"$work/litellm.log" 2>&1 & pids+=($!)
await curl -fsS "http://127.0.0.1:$port/health/liveliness"
ask() { curl -fsS "$base/chat/completions" -H "Authorization: Bearer $key" -H 'Content-Type: application/json' -d "{\"model\":\"model\",\"messages\":[{\"role\":\"user\",\"content\":\"$1\"}]}"; }
base=http://127.0.0.1:$port auth=(--auth-file="$work/litellm.key")
record litellm "$("$litellm/bin/pip" show litellm 2>/dev/null | awk '/^Version:/ {print "litellm " $2}')" "$base" 0 60
ask() { curl -fsS "$1"; }
auth=()
