# shellcheck shell=bash
# packages.sh: the Debian packages a node needs beside Kubernetes itself. Sourced by `cluster`.

PACKAGES=(etcd-server containerd runc containernetworking-plugins iptables iproute2 conntrack ethtool socat jq openssl curl)
CNI_PLUGINS=/usr/lib/cni

missing_packages() {
  local package
  for package in "${PACKAGES[@]}"; do
    [[ $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || printf '%s\n' "$package"
  done
}

# Debian starts the daemons it installs; ours are started by us, with our own state. A policy-rc.d that answers 101 forbids it.
without_daemons() { # COMMAND...
  local policy=/usr/sbin/policy-rc.d status=0
  if [[ -e $policy ]]; then "$@"; return; fi
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
  "$@" || status=$?
  rm -f "$policy"
  return "$status"
}

install_packages() {
  local missing
  mapfile -t missing < <(missing_packages)
  ((${#missing[@]})) || return 0
  command -v apt-get >/dev/null || die "needs ${missing[*]} and there is no apt-get: install them by hand"
  say "installing ${missing[*]}"
  apt-get update >"$STATE/log/apt.log" 2>&1 || die "apt-get update failed, see $STATE/log/apt.log"
  DEBIAN_FRONTEND=noninteractive without_daemons apt-get install -y --no-install-recommends "${missing[@]}" \
    >>"$STATE/log/apt.log" 2>&1 || die "apt-get install failed, see $STATE/log/apt.log"
}

# What keeps a node from running here, all of it at once.
cluster_check() {
  local problems=() port
  [[ $(uname -s) == Linux ]] || problems+=("Linux: this is $(uname -s)")
  ((EUID == 0)) || problems+=("root: this is user $EUID")
  command -v go >/dev/null || problems+=("go on PATH (https://go.dev/dl)")
  [[ -d /sys/fs/cgroup/memory || -w /sys/fs/cgroup/cgroup.subtree_control ]] || problems+=("cgroups with the memory controller, writable, at /sys/fs/cgroup")
  unshare --net --mount true 2>/dev/null || problems+=("the right to make network and mount namespaces (CAP_SYS_ADMIN)")
  command -v apt-get >/dev/null || [[ -z $(missing_packages) ]] || problems+=("$(missing_packages | xargs), and there is no apt-get to install them")
  for port in 2379 6443 10250; do
    running_pid apiserver >/dev/null || ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || problems+=("port $port: something else listens there")
  done
  ((${#problems[@]} == 0)) || { printf 'cluster: a node cannot run here, it needs %s\n' "${problems[@]}" >&2; exit 1; }
}
