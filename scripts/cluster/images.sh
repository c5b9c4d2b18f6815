# shellcheck shell=bash
# images.sh: image archives without docker, and their way into the node. Sourced by `cluster`.

IMAGE_DIR=$CACHE/images

have_image() { [[ $(ctr images ls -q) == *"/$1"* ]]; } # NAME

cluster_load() { # ARCHIVE...
  local archive
  for archive in "$@"; do
    say "importing $archive"
    ctr images import "$archive" >/dev/null
  done
}

cluster_image() { # flags of ../images/archive; the archive is loaded when the node runs
  local archive
  mkdir -p "$IMAGE_DIR"
  archive=$(go run -C "$HERE/../images" ./archive -dir "$IMAGE_DIR" "$@")
  if [[ ${CLUSTER:-} == external ]]; then external_load "$archive"
  elif running_pid containerd >/dev/null; then cluster_load "$archive"; fi
  echo "$archive"
}

# The pause container holds a pod's namespaces and ends on SIGTERM.
load_pause_image() {
  local binary
  binary=$(mktemp -d)/pause
  (cd "$HERE" && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$binary" ./pause)
  cluster_image -name "$PAUSE_IMAGE" -add "$binary:/pause" -entrypoint /pause >/dev/null
  rm -rf "${binary%/*}"
}
