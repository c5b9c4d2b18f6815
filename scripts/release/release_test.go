package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	krew "sigs.k8s.io/krew/pkg/index"
	"sigs.k8s.io/yaml"
)

var background = context.Background() // of what is made once for all tests

// What is looked at: $RELEASE, a folder that build and sign filled from the last commit for $VERSION, as `make
// release-dry-run` does. Without it the whole way is gone with programs of a few lines, for this machine alone, unsigned.
var made = sync.OnceValues(func() (folder string, err error) {
	if folder = os.Getenv("RELEASE"); folder != "" {
		return folder, nil
	}
	if folder, err = os.MkdirTemp("", "release-test-"); err != nil {
		return "", err
	}
	scratch = folder
	repo = filepath.Join(folder, "repository")
	if err = small(repo); err != nil {
		return "", err
	}
	source := filepath.Join(folder, "source")
	folder = filepath.Join(folder, "release")
	if err = clone(source); err == nil {
		err = (&buildCmd{Source: source, Out: folder, Version: version(), Only: only()}).Run(background)
	}
	return folder, err
})

// repo is what is released; scratch, if any, is removed at the end.
var repo, scratch = "../..", ""

func TestMain(m *testing.M) {
	code := m.Run()
	if scratch != "" {
		_ = os.RemoveAll(scratch)
	}
	os.Exit(code)
}

// small makes a repository with the names of ours and hardly anything in it.
func small(dir string) error {
	files := map[string]string{
		"go.mod": "module github.com/drain-agent/drain-agent\n\ngo 1.26.0\n", "go.sum": "",
		"app/main.go": "package main\n\nvar stamped, revision string\n\nfunc main() { println(stamped, revision) }\n",
	}
	for path, program := range map[string]string{"agent/main.go": "drain-agent", "deploy/drainctl/main.go": "drainctl"} {
		files[path] = fmt.Sprintf("package main\n\nimport \"os\"\n\nvar version, revision, agentDigest string\n\nfunc main() {\n"+
			"\tos.Stdout.WriteString(%q + version + \" (commit \" + revision + \", go1) ghcr.io/drain-agent/drain-agent:\" + version + agentDigest)\n}\n", program+" ")
	}
	for _, name := range []string{"Dockerfile.agent", "Dockerfile.app", "LICENSE", "CHANGELOG.md"} {
		text, err := os.ReadFile(filepath.Join("../..", name))
		if err != nil {
			return err
		}
		files[name] = string(text)
	}
	for name, text := range files {
		if err := write(filepath.Join(dir, name), []byte(text)); err != nil {
			return err
		}
	}
	for _, args := range [][]string{
		{"init", "-q"}, {"add", "-A"}, {"-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-q", "--no-verify", "-m", "small"},
	} {
		if out, err := exec.CommandContext(background, "git", append([]string{"-C", dir}, args...)...).CombinedOutput(); err != nil {
			return fmt.Errorf("git %v: %w: %s", args, err, out)
		}
	}
	return nil
}

// whole skips a test that means nothing for the small repository, or takes minutes.
func whole(t *testing.T) {
	t.Helper()
	if os.Getenv("RELEASE") == "" {
		t.Skip("only of a whole release: make release-dry-run")
	}
}

func version() string {
	if v := os.Getenv("VERSION"); v != "" {
		return v
	}
	return "v0.0.0-test"
}

// only is $ONLY: the platforms of a try. What is said of all platforms is then not asked.
func only() []string {
	if os.Getenv("RELEASE") == "" {
		return []string{"linux/" + runtime.GOARCH}
	}
	return strings.FieldsFunc(os.Getenv("ONLY"), func(r rune) bool { return r == ',' })
}

func clone(to string) error {
	return exec.CommandContext(background, "git", "clone", "-q", repo, to).Run()
}

func folderOf(t *testing.T) string {
	t.Helper()
	folder, err := made()
	if err != nil {
		t.Fatal(err)
	}
	return folder
}

func read(t *testing.T, names ...string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(names...))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// bits of every file, the signatures apart: each of these holds a number of chance.
func bits(t *testing.T, folder string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		name, _ := filepath.Rel(folder, path)
		if err != nil || entry.IsDir() || strings.HasPrefix(name, "signatures") || strings.HasSuffix(name, ".sigstore.json") || name == "cosign.pub" {
			return err
		}
		all[name] = fmt.Sprintf("%x", sha256.Sum256(read(t, path)))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// The same commit in another folder gives the same bits. With COLD=1 the second is compiled from nothing: minutes more.
func TestReproducible(t *testing.T) {
	first := bits(t, folderOf(t))
	source := filepath.Join(t.TempDir(), "some", "where", "else")
	if err := clone(source); err != nil {
		t.Fatal(err)
	}
	if os.Getenv("COLD") != "" {
		t.Setenv("GOCACHE", t.TempDir())
	}
	folder := filepath.Join(t.TempDir(), "out")
	if err := (&buildCmd{Source: source, Out: folder, Version: version(), Only: only()}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := bits(t, folder)
	for _, name := range slices.Sorted(maps.Keys(first)) {
		if first[name] != second[name] {
			t.Errorf("%s differs", name)
		}
	}
	if len(first) != len(second) || (len(first) < 30 && only() == nil) {
		t.Errorf("%d and %d files", len(first), len(second))
	}
}

// digests are the references of the images, by their names.
func digests(t *testing.T) map[string]string {
	t.Helper()
	root, err := layout.ImageIndexFromPath(filepath.Join(folderOf(t), "images"))
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := root.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, d := range manifest.Manifests {
		ref := d.Annotations[refName]
		all[strings.TrimSuffix(filepath.Base(ref), ":"+version())] = ref + "@" + d.Digest.String()
	}
	return all
}

// The layout is whole; each image is an index of both architectures whose labels say what it is, and holds the program of
// the archive.
func TestImages(t *testing.T) {
	root, err := layout.ImageIndexFromPath(filepath.Join(folderOf(t), "images"))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(root); err != nil {
		t.Fatal(err)
	}
	manifest, err := root.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Manifests) != len(dockerfiles) && os.Getenv("RELEASE") != "" {
		t.Errorf("%d images", len(manifest.Manifests))
	}
	for _, d := range manifest.Manifests {
		index, err := root.ImageIndex(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		parts, err := index.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		var seen []string
		for _, part := range parts.Manifests {
			built, err := index.Image(part.Digest)
			if err != nil {
				t.Fatal(err)
			}
			config, err := built.ConfigFile()
			if err != nil {
				t.Fatal(err)
			}
			seen = append(seen, config.Architecture)
			called := strings.TrimSuffix(filepath.Base(d.Annotations[refName]), ":"+version())
			labels := config.Config.Labels
			if labels["org.opencontainers.image.version"] != version() || len(labels["org.opencontainers.image.revision"]) != 40 ||
				labels["org.opencontainers.image.source"] == "" || labels["org.opencontainers.image.title"] != called ||
				part.Platform.Architecture != config.Architecture || config.Config.User == "" {
				t.Errorf("%s: labels %v, user %q, platform %v", called, labels, config.Config.User, part.Platform)
			}
			files := mutate.Extract(built)
			in := untar(t, files)
			archive := fmt.Sprintf("%s_%s_linux_%s.tar.gz", called, version(), config.Architecture)
			released := unpacked(t, archive, read(t, folderOf(t), archive))
			for name, content := range in {
				if !bytes.Equal(content, released[name]) || "/"+name != config.Config.Entrypoint[0] {
					t.Errorf("%s of %s is not the one that is released", name, called)
				}
			}
		}
		if !slices.Equal(seen, arches) && only() == nil {
			t.Errorf("%s: %v", d.Annotations[refName], seen)
		}
	}
}

// Checksums are those of all files.
func TestChecksums(t *testing.T) {
	listed := map[string]string{}
	for line := range strings.Lines(string(read(t, folderOf(t), "SHA256SUMS"))) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		listed[name] = sum
	}
	for name, sum := range bits(t, folderOf(t)) {
		if name != "SHA256SUMS" && !strings.HasPrefix(name, "images/blobs/") && listed[name] != sum {
			t.Errorf("%s: listed %q, is %s", name, listed[name], sum)
		}
	}
}

// The manifest for kubectl's plugin manager names archives of the release that hold what it says.
func TestKrew(t *testing.T) {
	var p krew.Plugin
	if err := yaml.UnmarshalStrict(read(t, folderOf(t), "krew", plugin+".yaml"), &p); err != nil {
		t.Fatal(err)
	}
	if p.Name != plugin || p.Spec.Version != version() || p.Spec.ShortDescription == "" || len(p.Spec.Platforms) != 6 && only() == nil {
		t.Errorf("%+v", p)
	}
	for _, platform := range p.Spec.Platforms {
		name := filepath.Base(platform.URI)
		content := read(t, folderOf(t), name)
		if fmt.Sprintf("%x", sha256.Sum256(content)) != platform.Sha256 || len(unpacked(t, name, content)[platform.Bin]) == 0 {
			t.Errorf("%s does not hold %s, or has another checksum", name, platform.Bin)
		}
	}
}

// The chart, where there is one, bears the version.
func TestChart(t *testing.T) {
	whole(t)
	name := chart + "-" + strings.TrimPrefix(version(), "v") + ".tgz"
	files := unpacked(t, name, read(t, folderOf(t), name))
	var says struct{ Name, Version, AppVersion string }
	if err := yaml.Unmarshal(files[chart+"/Chart.yaml"], &says); err != nil {
		t.Fatal(err)
	}
	if says.Name != chart || "v"+says.Version != version() || says.AppVersion != version() {
		t.Errorf("%+v", says)
	}
	values := string(files[chart+"/values.yaml"])
	_, controller, _ := strings.Cut(digests(t)[chart], ":")
	if agent := digests(t)["drain-agent"]; agent == "" || !strings.Contains(values, "image: "+agent+"\n") || !strings.Contains(values, `tag: "`+controller+`"`) {
		t.Errorf("the images are not this version's, %v:\n%s", digests(t), values)
	}
}

func TestNotes(t *testing.T) {
	notes := string(read(t, folderOf(t), "RELEASE_NOTES.md"))
	if !strings.Contains(notes, version()) || !strings.Contains(notes, "### Added") || !strings.Contains(notes, "drain-agent:"+version()+"@sha256:") {
		t.Errorf("%.300s", notes)
	}
	changelog := "# C\n\n## [Unreleased]\n\n## [0.2.0] - 2026-01-02\n\n- new\n\n## [0.1.0]\n\n- old\n"
	for number, want := range map[string]string{"0.2.0": "- new", "0.1.0": "- old"} {
		if got, err := cut(changelog, number); got != want || err != nil {
			t.Errorf("%s: %q %v", number, got, err)
		}
	}
	if got, err := cut(changelog, "0.3.0"); err == nil {
		t.Errorf("notes of a version that the changelog does not know: %q", got)
	}
}
