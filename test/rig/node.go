package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

// Build compiles the server of the module at root, as it is shipped, to the file
// at binary. An empty root is the module of the working directory. flags are
// further ones of go build.
func Build(ctx context.Context, root, binary string, flags ...string) error {
	cmd := exec.CommandContext(ctx, "go", slices.Concat([]string{"build", "-trimpath", "-buildvcs=false", "-o", binary}, flags, []string{"./cmd/authserver"})...)
	if root == "" {
		gomod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
		if err != nil {
			return fmt.Errorf("go env GOMOD: %w", err)
		}
		root = filepath.Dir(string(bytes.TrimSpace(gomod)))
	}
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the server in %s: %w:\n%s", root, err, out)
	}
	return nil
}

// Node is one server, running or not. Its fields are not changed while it runs.
type Node struct {
	Name     string
	Binary   string
	Dir      string   // its working and data directory; its log is there, too
	Settings []string // without their prefix: DATABASE_URL=...
	URL      string   // of the public listener

	operations string
	process    *Process
}

// NewNode prepares a node with a directory below dir.
func NewNode(name, binary, dir string, settings ...string) (*Node, error) {
	n := &Node{Name: name, Binary: binary, Dir: filepath.Join(dir, name)}
	if err := os.MkdirAll(n.Dir, 0o755); err != nil {
		return nil, err
	}
	public, operations, err := FreeAddresses()
	if err != nil {
		return nil, err
	}
	n.URL, n.operations = "http://"+public, "http://"+operations
	n.Settings = append([]string{"ADDR=" + public, "ADMIN_ADDR=" + operations, "DATA_DIR=" + n.Dir}, settings...)
	return n, nil
}

// Environment is what the node's processes have.
func (n *Node) Environment() []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + n.Dir}
	for _, s := range n.Settings {
		env = append(env, "AUTHSERVER_"+s)
	}
	return env
}

// Start runs the node and returns when it is ready.
func (n *Node) Start(ctx context.Context) (err error) {
	cmd := exec.Command(n.Binary, "serve")
	cmd.Dir, cmd.Env = n.Dir, n.Environment()
	if n.process, err = Start(cmd, n.Name, filepath.Join(n.Dir, "log")); err != nil {
		return err
	}
	return n.process.Await(ctx, time.Minute, n.Ready)
}

// Ready asks the node whether it is.
func (n *Node) Ready() error {
	client := http.Client{Timeout: 5 * time.Second}
	answer, err := client.Get(n.operations + "/readyz")
	if err != nil {
		return err
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("/readyz says %s", answer.Status)
	}
	return nil
}

// Stop ends the node as a rollout does: it drains first.
func (n *Node) Stop() error {
	if n.process == nil {
		return nil
	}
	if err := n.process.Stop(time.Minute); err != nil {
		return fmt.Errorf("stop %s: %w:\n%s", n.Name, err, n.process.Tail())
	}
	return nil
}

// Tail returns the last of the node's log.
func (n *Node) Tail() string {
	if n.process == nil {
		return "it was never started"
	}
	return n.process.Tail()
}

// Run runs another verb of the node's binary in the node's environment and
// returns its standard output. A failure has what went to standard error.
func (n *Node) Run(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, n.Binary, args...)
	cmd.Dir, cmd.Env = n.Dir, n.Environment()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.Bytes(), fmt.Errorf("authserver %v: %w:\n%s%s", args, err, out.Bytes(), errs.Bytes())
	}
	return out.Bytes(), nil
}

// Audit re-reads the database with `authserver audit sessions` and returns the
// number of violations, with their text.
func (n *Node) Audit(ctx context.Context) (violations int, text string, err error) {
	out, err := n.Run(ctx, "audit", "sessions", "--json")
	var report struct {
		Count *int `json:"count"`
	}
	if bad := json.Unmarshal(out, &report); bad != nil || report.Count == nil {
		return 0, "", errors.Join(fmt.Errorf("audit sessions printed %.300q", out), bad, err)
	}
	return *report.Count, string(out), nil // violations make the exit code, too
}
