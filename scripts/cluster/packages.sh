# shellcheck shell=bash
# packages.sh: the Debian packages a node needs beside Kubernetes itself. Sourced by `cluster`.

PACKAGES=(etcd-server containerd runc containernetworking-plugins iptables conntrack ethtool socat jq openssl)
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
