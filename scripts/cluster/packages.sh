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
  [[ -w /sys/fs/cgroup/memory || -w /sys/fs/cgroup/cgroup.subtree_control ]] || problems+=("cgroups with the memory controller, writable, at /sys/fs/cgroup")
  [[ -w /proc/sys/net/ipv4/ip_forward ]] || problems+=("the right to change /proc/sys")
  [[ -r /dev/kmsg ]] || problems+=("/dev/kmsg, which kubelet reads")
  [[ -e /proc/sys/net/bridge ]] || modprobe --dry-run br_netfilter 2>/dev/null || problems+=("a kernel with br_netfilter")
  if unshare --net --mount true 2>/dev/null; then check_kernel; else problems+=("the right to make network and mount namespaces (CAP_SYS_ADMIN)"); fi
  command -v apt-get >/dev/null || [[ -z $(missing_packages) ]] || problems+=("$(missing_packages | xargs), and there is no apt-get to install them")
  for port in 2379 6443 10250; do
    running_pid apiserver >/dev/null || ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || problems+=("port $port: something else listens there")
  done
  ((${#problems[@]} == 0)) || { printf 'cluster: a node cannot run here, it needs %s\n' "${problems[@]}" >&2; exit 1; }
}

# What pods and kube-proxy ask of the kernel, tried in namespaces of its own; what has no tool yet is not tried.
check_kernel() {
  mkdir -p "$STATE"
  ! command -v ip >/dev/null || apart 'ip link add name a type bridge && ip link add name b type veth peer name c' || problems+=("a kernel with bridge and veth devices")
  ! command -v iptables >/dev/null || apart 'iptables -t nat -A POSTROUTING -m comment --comment x -m conntrack --ctstate NEW -m mark --mark 1 \
    -m statistic --mode random --probability 0.5 -j MASQUERADE && iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -p tcp -j DNAT --to 127.0.0.1' ||
    problems+=("a kernel with iptables' nat table and the matches of kube-proxy")
  apart "mount -t tmpfs tmpfs '$STATE' && cd '$STATE' && mkdir l u w m && mount -t overlay overlay -o lowerdir=l,upperdir=u,workdir=w m" ||
    problems+=("a kernel with overlayfs")
}
apart() { unshare --net --mount sh -c "$1" >/dev/null 2>&1; } # COMMANDS
