# shellcheck shell=bash
# config.sh: certificates, kubeconfigs and the components' configuration files. Sourced by `cluster`.

certificate() { # NAME SUBJECT [SAN]: signed by our CA; an existing one is kept
  local file=$STATE/pki/$1 usage='extendedKeyUsage=serverAuth,clientAuth'
  [[ ! -s $file.crt ]] || return 0
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$file.key" -subj "$2" -out "$file.csr" 2>/dev/null
  printf '%s\n%s\n' "$usage" "${3:+subjectAltName=$3}" >"$file.ext"
  openssl x509 -req -days 365 -in "$file.csr" -CA "$STATE/pki/ca.crt" -CAkey "$STATE/pki/ca.key" -CAcreateserial \
    -extfile "$file.ext" -out "$file.crt" 2>/dev/null
  rm -f "$file.csr" "$file.ext"
}

authority() {
  [[ ! -s $STATE/pki/ca.crt ]] || return 0
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj /CN=drain-agent-test \
    -keyout "$STATE/pki/ca.key" -out "$STATE/pki/ca.crt" 2>/dev/null
  openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$STATE/pki/sa.key" 2>/dev/null
  openssl pkey -in "$STATE/pki/sa.key" -pubout -out "$STATE/pki/sa.pub" 2>/dev/null
}

kubeconfig() { # NAME FILE: for the certificate NAME
  cat >"$2" <<YAML
apiVersion: v1
kind: Config
current-context: drain-agent
clusters: [{name: local, cluster: {server: $API, certificate-authority: $STATE/pki/ca.crt}}]
users: [{name: $1, user: {client-certificate: $STATE/pki/$1.crt, client-key: $STATE/pki/$1.key}}]
contexts: [{name: drain-agent, context: {cluster: local, user: $1}}]
YAML
  chmod 600 "$2"
}

write_credentials() { # NODE_ADDRESS
  local component
  authority
  certificate apiserver /CN=kube-apiserver "DNS:localhost,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:10.96.0.1,IP:$1"
  certificate admin /O=system:masters/CN=admin
  certificate kubelet "/O=system:nodes/CN=system:node:$NODE"
  for component in controller-manager scheduler proxy; do certificate "$component" "/CN=system:kube-$component"; done
  for component in controller-manager scheduler proxy kubelet; do kubeconfig "$component" "$STATE/conf/$component.conf"; done
  kubeconfig admin "$STATE/admin.conf"
}

write_containerd_config() {
  cat >"$STATE/conf/containerd.toml" <<TOML
version = 2
root = "$STATE/containerd/root"
state = "$STATE/containerd/state"
[grpc]
  address = "$STATE/run/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$PAUSE_IMAGE"
  # runc may not lower a score without CAP_SYS_RESOURCE, and then says "can't get final child's PID from pipe: EOF"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$CNI_PLUGINS"
    conf_dir = "$STATE/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
TOML
  cat >"$STATE/cni/10-bridge.conflist" <<JSON
{"cniVersion": "0.4.0", "name": "drain-agent", "plugins": [
  {"type": "bridge", "bridge": "$BRIDGE", "isGateway": true, "ipMasq": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$STATE/cni-ipam", "ranges": [[{"subnet": "$POD_NET"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON
}

# Images cannot be pulled again, so they are never collected.
write_kubelet_config() { # NODE_ADDRESS
  cat >"$STATE/conf/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $1
containerRuntimeEndpoint: unix://$STATE/run/containerd.sock
cgroupDriver: cgroupfs
failSwapOn: false
failCgroupV1: false
oomScoreAdj: 0
resolvConf: /dev/null
clusterDNS: [$DNS]
clusterDomain: cluster.local
podLogsDir: $STATE/pod-logs
serializeImagePulls: false
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}
imageGCHighThresholdPercent: 100
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $STATE/pki/ca.crt}}
authorization: {mode: Webhook}
YAML
}
