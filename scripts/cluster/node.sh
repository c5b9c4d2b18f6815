# shellcheck shell=bash
# node.sh: the node's life: up, down, restart, status. Sourced by `cluster`.

NODE=node1
API=https://127.0.0.1:6443
POD_NET=10.244.0.0/24 # the bridge is .1: the source address of kubelet's hooks and probes
SERVICE_NET=10.96.0.0/16
DNS=10.96.0.10 # a Service of this address is the cluster's resolver; scripts/mesh brings one, and without it nobody answers
BRIDGE=cni0
PAUSE_IMAGE=drain-agent/pause:1
COMPONENTS=(etcd containerd apiserver controller-manager scheduler kubelet proxy) # start order; stopped the other way round

cluster_kubectl() { "$BIN/kubectl" --kubeconfig "$STATE/admin.conf" "$@"; }
cluster_env() { printf 'export KUBECONFIG=%q PATH=%q:"$PATH"\n' "$STATE/admin.conf" "$BIN"; }
ctr() { command ctr --address "$STATE/run/containerd.sock" --namespace k8s.io "$@"; }

node_address() {
  local address
  address=$(ip -4 -o addr show scope global | awk -v bridge="$BRIDGE" '$2 != bridge && $2 !~ /^(docker|veth)/ {sub("/.*", "", $4); print $4; exit}')
  [[ -n $address ]] || die "found no global IPv4 address for the node"
  echo "$address"
}

# --- one function per component; $ADDRESS is the node's address -------------------------------------------------------
start_etcd() {
  start_process etcd etcd --name "$NODE" --data-dir "$STATE/etcd" --unsafe-no-fsync --log-level warn \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
    --initial-cluster "$NODE=http://127.0.0.1:2380"
  wait_for 30 etcd curl -fs http://127.0.0.1:2379/health
}
start_containerd() {
  start_process containerd containerd --config "$STATE/conf/containerd.toml"
  wait_for 30 containerd ctr version
  have_image "$PAUSE_IMAGE" || load_pause_image
}
start_apiserver() { # on every address: pods that ask it (istiod) reach it on the node's
  start_process apiserver "$BIN/kube-apiserver" --bind-address=0.0.0.0 --secure-port=6443 --advertise-address="$ADDRESS" \
    --etcd-servers=http://127.0.0.1:2379 --client-ca-file="$STATE/pki/ca.crt" \
    --tls-cert-file="$STATE/pki/apiserver.crt" --tls-private-key-file="$STATE/pki/apiserver.key" \
    --kubelet-client-certificate="$STATE/pki/admin.crt" --kubelet-client-key="$STATE/pki/admin.key" \
    --kubelet-preferred-address-types=InternalIP --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
    --allow-privileged=true --service-cluster-ip-range="$SERVICE_NET" --service-account-issuer=https://kubernetes.default.svc \
    --service-account-key-file="$STATE/pki/sa.pub" --service-account-signing-key-file="$STATE/pki/sa.key"
  wait_for 60 kube-apiserver cluster_kubectl get --raw /readyz
}
start_controller-manager() {
  start_process controller-manager "$BIN/kube-controller-manager" --kubeconfig="$STATE/conf/controller-manager.conf" \
    --bind-address=127.0.0.1 --leader-elect=false --use-service-account-credentials=true \
    --root-ca-file="$STATE/pki/ca.crt" --service-account-private-key-file="$STATE/pki/sa.key"
}
start_scheduler() {
  start_process scheduler "$BIN/kube-scheduler" --kubeconfig="$STATE/conf/scheduler.conf" --bind-address=127.0.0.1 --leader-elect=false
}
start_kubelet() {
  start_process kubelet "$BIN/kubelet" --config="$STATE/conf/kubelet.yaml" --kubeconfig="$STATE/conf/kubelet.conf" \
    --root-dir="$STATE/kubelet" --cert-dir="$STATE/kubelet/pki" --hostname-override="$NODE" --node-ip="$ADDRESS"
}
start_proxy() { # --conntrack-max-per-core=0: the limit belongs to the machine, not to us
  start_process proxy "$BIN/kube-proxy" --kubeconfig="$STATE/conf/proxy.conf" --proxy-mode=iptables --hostname-override="$NODE" \
    --cluster-cidr="$POD_NET" --conntrack-max-per-core=0 --bind-address=127.0.0.1 --healthz-bind-address=127.0.0.1:10256
}

# --- the machine's settings -------------------------------------------------------------------------------------------
set_sysctl() { # KEY_PATH VALUE: the old value is written down for `down`
  local file=/proc/sys/$1
  [[ -e $file ]] || return 0
  grep -qs "^$1 " "$STATE/run/sysctl" || echo "$1 $(<"$file")" >>"$STATE/run/sysctl"
  echo "$2" >"$file"
}
prepare_machine() {
  # The first `ip netns add` mounts /run/netns over itself and hides the mounts of pods made before: they could never be
  # removed ("device or resource busy"). So the mount is made first, as iproute2 makes it.
  mkdir -p /run/netns
  mountpoint -q /run/netns || { mount --bind /run/netns /run/netns && mount --make-shared /run/netns; }
  modprobe br_netfilter 2>/dev/null || true # built in, or checked before
  set_sysctl net/ipv4/ip_forward 1
  set_sysctl net/ipv4/conf/all/route_localnet 1   # NodePorts on 127.0.0.1
  set_sysctl net/bridge/bridge-nf-call-iptables 1 # services between pods of one bridge
}

lock_state() {
  ((EUID == 0)) || die "needs root"
  mkdir -p "$STATE"/{pki,run,log,conf,cni,etcd,kubelet,pod-logs}
  exec 9>"$STATE/lock"
  flock 9
}

node_ready() {
  [[ $(cluster_kubectl get node "$NODE" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}' 2>/dev/null) == True ]]
}

cluster_up() {
  local begin=$SECONDS component
  cluster_check
  lock_state
  cluster_build
  install_packages
  ADDRESS=$(node_address)
  say "node $NODE at $ADDRESS, state in $STATE"
  write_credentials "$ADDRESS"
  write_containerd_config
  write_kubelet_config "$ADDRESS"
  prepare_machine
  for component in "${COMPONENTS[@]}"; do "start_$component"; done
  wait_for 60 "node Ready" node_ready
  favour_pods
  wait_for 30 "default service account" cluster_kubectl get serviceaccount default
  say "node $NODE is Ready after $((SECONDS - begin)) s; next: $0 kubectl get pods -A"
}

# Kubelet gives all pods together the weight of one process for each processor, beside whatever else the machine runs outside of
# groups: with forty compilers they had a twentieth of it, and clients, not pods, were lost. They get that of forty.
favour_pods() {
  local file
  for file in /sys/fs/cgroup/cpu/kubepods/cpu.shares:40960 /sys/fs/cgroup/kubepods/cpu.weight:4000; do
    [[ ! -w ${file%:*} ]] || echo "${file#*:}" >"${file%:*}" || true
  done
}

cluster_restart() { # COMPONENT
  [[ " ${COMPONENTS[*]} " == *" ${1:-} "* ]] || die "restart which component? one of: ${COMPONENTS[*]}"
  lock_state
  ADDRESS=$(node_address)
  stop_process "$1"
  "start_$1"
}

# --- down -------------------------------------------------------------------------------------------------------------
remove_containers() { # containerd still runs, kubelet does not: nothing restarts what ends here
  local id namespace
  for id in $(ctr containers ls -q 2>/dev/null); do
    namespace=$(ctr containers info "$id" | jq -r '.Spec.linux.namespaces[]? | select(.type == "network") | .path // empty')
    [[ $namespace != */netns/cni-* ]] || echo "$namespace" >>"$STATE/run/netns"
    ctr tasks kill -a -s SIGKILL "$id" >/dev/null 2>&1 || true
  done
  for id in $(ctr containers ls -q 2>/dev/null); do
    ctr tasks rm -f "$id" >/dev/null 2>&1 || true
    rm -f /var/lib/cni/results/*-"$id"-*
    ctr containers rm "$id" >/dev/null 2>&1 || say "container $id would not go"
  done
}
kill_shims() { # they belong to containerd, not to us: found by our socket in their command line
  local pid
  for pid in $(grep -lszF -- "$STATE/run/containerd.sock" /proc/[0-9]*/cmdline 2>/dev/null | cut -d/ -f3); do
    [[ $(readlink "/proc/$pid/exe") != *containerd-shim* ]] || kill -9 "$pid" 2>/dev/null || true
  done
}
remove_mounts() {
  local mount
  awk -v dir="$STATE/" 'index($5, dir) == 1 {print $5}' /proc/self/mountinfo | sort -r | while read -r mount; do umount -l "$mount" || true; done
  sort -u "$STATE/run/netns" 2>/dev/null | while read -r mount; do umount -l "$mount" 2>/dev/null; rm -f "$mount"; done || true
}
remove_network() { # the chains of kube-proxy, kubelet and the CNI plugins; other rules stay
  local tables rules key value
  ! ip link show "$BRIDGE" >/dev/null 2>&1 || ip link del "$BRIDGE"
  for tables in iptables ip6tables; do
    rules=$("$tables-save" 2>/dev/null) || continue
    [[ ! $rules =~ KUBE-|CNI- ]] || grep -vE 'KUBE-|CNI-' <<<"$rules" | "$tables-restore"
  done
  conntrack -D -s "$POD_NET" >/dev/null 2>&1 || true
  [[ ! -e $STATE/run/sysctl ]] || while read -r key value; do echo "$value" >"/proc/sys/$key" || true; done <"$STATE/run/sysctl"
}

cluster_down() {
  local component i
  [[ -d $STATE ]] || { say "nothing at $STATE"; return; }
  lock_state
  for ((i = ${#COMPONENTS[@]} - 1; i >= 0; i--)); do
    component=${COMPONENTS[i]}
    [[ $component != containerd ]] || ! running_pid containerd >/dev/null || remove_containers
    stop_process "$component"
  done
  kill_shims
  remove_mounts
  remove_network
  find /sys/fs/cgroup -depth -type d -path '*/kubepods*' -exec rmdir {} + 2>/dev/null || true
  find /var/log/containers -xtype l -delete 2>/dev/null || true
  rm -rf "$STATE"/{etcd,kubelet,cni-ipam,pod-logs} "$STATE"/run/{netns,sysctl}
  [[ ${1:-} != --purge ]] || rm -rf "$STATE"
  say "down"
}

cluster_status() {
  local component pid
  for component in "${COMPONENTS[@]}"; do
    if pid=$(running_pid "$component"); then
      printf '%-20s pid %-8s %s MB\n' "$component" "$pid" "$(($(awk '/VmRSS/ {print $2}' "/proc/$pid/status") / 1024))"
    else printf '%-20s not running\n' "$component"; fi
  done
  cluster_kubectl get nodes,pods -A -o wide 2>/dev/null || true
  node_ready
}
