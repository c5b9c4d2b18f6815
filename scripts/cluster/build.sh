# shellcheck shell=bash
# build.sh: the Kubernetes binaries, compiled once from their public Go modules into the user's cache. Sourced by `cluster`.

# k8s.io/kubernetes replaces its staging modules by folders its module zip does not carry, so it cannot be `go install`ed:
# a module of our own requires it and replaces each of them by the released module of the same version.
write_kube_module() { # DIR
  local upstream
  upstream=$(cd / && go mod download -json "k8s.io/kubernetes@$KUBE_VERSION" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')
  [[ -s $upstream ]] || die "go mod download found no k8s.io/kubernetes@$KUBE_VERSION; is the Go module proxy reachable?"
  (
    cd "$1" && rm -f go.mod go.sum && go mod init localkube 2>/dev/null
    # shellcheck disable=SC2046 # one -replace per word
    go mod edit -go="$(awk '$1 == "go" {print $2}' "$upstream")" -godebug="$(awk '$1 == "godebug" {print $2}' "$upstream")" \
      -require="k8s.io/kubernetes@$KUBE_VERSION" \
      $(sed -nE "s#^\s*(k8s.io/[a-z-]+) => ./staging/.*#-replace=\1=\1@v0.${KUBE_VERSION#v1.}#p" "$upstream")
  )
}

version_flags() { # linker flags: what the binaries answer to --version, and what `kubectl version` compares
  local package minor=${KUBE_VERSION#v1.}
  printf -- '-s -w'
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    printf -- ' -X %s.gitVersion=%s -X %s.gitMajor=1 -X %s.gitMinor=%s -X %s.gitTreeState=clean' \
      "$package" "$KUBE_VERSION" "$package" "$package" "${minor%%.*}" "$package"
  done
}

cluster_built() { [[ -e $BIN/.complete ]]; }

cluster_build() {
  ! cluster_built || { say "Kubernetes $KUBE_VERSION is built: $BIN"; return; }
  local source=$CACHE/src-$KUBE_VERSION
  mkdir -p "$source" "$BIN"
  exec 8>"$CACHE/build.lock"
  flock 8
  ! cluster_built || return 0
  say "compiling Kubernetes $KUBE_VERSION into $BIN (niced, once)"
  write_kube_module "$source"
  (cd "$source" && GOFLAGS=-mod=mod CGO_ENABLED=0 nice -n 15 go build -trimpath -gcflags=all=-dwarf=false \
    -ldflags "$(version_flags)" -o "$BIN/" \
    k8s.io/kubernetes/cmd/{kube-apiserver,kube-controller-manager,kube-scheduler,kubelet,kube-proxy,kubectl})
  touch "$BIN/.complete"
  say "built $("$BIN/kubelet" --version)"
}
