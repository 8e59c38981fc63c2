// Package auditdbtest gives tests and the drill a real PostgreSQL server to
// read from: a throw-away cluster, tables as the audited services have them, a
// writer of genuine events, and a proxy that cuts connections.
//
// A cluster lives in a folder of its own, listens on loopback only, and dies
// with the process that started it. It trades durability for speed: never keep
// anything in it.
package auditdbtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Install says what to do where Find finds nothing.
const Install = "PostgreSQL's server programs (initdb, postgres) were not found in $PGBIN, PATH or the usual places: " +
	"install the package postgresql (Debian, Ubuntu), postgresql-server (Fedora, RHEL) or postgresql@17 (Homebrew), or set PGBIN to their folder"

// places hold a folder for each version of the server.
var places = []string{
	"/usr/lib/postgresql/*/bin",         // Debian, Ubuntu
	"/usr/pgsql-*/bin",                  // the PostgreSQL project's RPMs
	"/opt/homebrew/opt/postgresql*/bin", // Homebrew
}

// Find looks for the folder of initdb and postgres: $PGBIN, then PATH, then
// the newest version in the usual places.
func Find() (bin string, ok bool) {
	if dir := os.Getenv("PGBIN"); dir != "" {
		return dir, hasServer(dir)
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil && hasServer(filepath.Dir(path)) {
			return filepath.Dir(path), true
		}
	}
	for _, place := range places {
		dirs, _ := filepath.Glob(place)
		slices.SortFunc(dirs, func(a, b string) int { return version(b) - version(a) })
		if i := slices.IndexFunc(dirs, hasServer); i >= 0 {
			return dirs[i], true
		}
	}
	return "", false
}

func hasServer(dir string) bool {
	for _, program := range []string{"initdb", "postgres"} {
		if _, err := exec.LookPath(filepath.Join(dir, program)); err != nil {
			return false
		}
	}
	return true
}

// version is the number in a folder's name, 0 without one.
func version(dir string) int {
	digits := strings.FieldsFunc(dir, func(r rune) bool { return r < '0' || r > '9' })
	if len(digits) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(digits[0])
	return n
}

// Cluster is a running server. Its superuser is postgres; connections from
// loopback need no password, except those of members of the role "password",
// should a test create it.
type Cluster struct {
	bin, dir string
	port     int
	owner    *syscall.Credential // whom the server runs as, nil for ourselves
	process  *os.Process
	exited   chan struct{}
}

// Start makes a cluster in a new folder inside dir, or inside the system's
// folder for temporary files if dir is empty, and waits until it answers. Run
// by root the server runs as postgres or nobody, because PostgreSQL refuses
// root; all parents of the folder must be open to that user.
func Start(ctx context.Context, dir string) (*Cluster, error) {
	bin, ok := Find()
	if !ok {
		return nil, errors.New(Install)
	}
	c := &Cluster{bin: bin}
	err := c.makeDir(dir)
	if err == nil {
		err = c.start(ctx)
	}
	if err != nil {
		c.Stop()
		return nil, err
	}
	return c, nil
}

func (c *Cluster) makeDir(parent string) (err error) {
	if c.dir, err = os.MkdirTemp(parent, "pg"); err != nil || os.Geteuid() != 0 {
		return err
	}
	owner, err := user.Lookup("postgres")
	if err != nil {
		if owner, err = user.Lookup("nobody"); err != nil {
			return fmt.Errorf("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody to run it as: run this as another user")
		}
	}
	uid, _ := strconv.Atoi(owner.Uid)
	gid, _ := strconv.Atoi(owner.Gid)
	c.owner = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	for at := filepath.Dir(c.dir); at != filepath.Dir(at); at = filepath.Dir(at) {
		if info, err := os.Stat(at); err == nil && info.Mode()&0o001 == 0 {
			return fmt.Errorf("the user %s, whom PostgreSQL would run as, cannot enter %s: set TMPDIR to a folder that everyone can", owner.Username, at)
		}
	}
	return os.Chown(c.dir, uid, gid)
}

func (c *Cluster) start(ctx context.Context) error {
	initdb := c.command("initdb", "-D", c.data(), "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--no-locale")
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb failed (%v): %s", err, strings.TrimSpace(string(out)))
	}
	hba := "local all all trust\nhost all +password 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n"
	if err := os.WriteFile(filepath.Join(c.data(), "pg_hba.conf"), []byte(hba), 0o600); err != nil {
		return err
	}
	var err error
	for range 3 { // another process may take the free port first
		err = c.listen(ctx)
		select {
		case <-c.exited:
		default:
			return err
		}
	}
	return err
}

// listen runs the server on a free port and waits until it answers.
func (c *Cluster) listen(ctx context.Context) error {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	c.port = free.Addr().(*net.TCPAddr).Port
	free.Close()
	logFile, err := os.Create(filepath.Join(c.dir, "log"))
	if err != nil {
		return err
	}
	defer logFile.Close()
	server := c.command("postgres", "-D", c.data(), "-k", c.dir, "-p", strconv.Itoa(c.port),
		"-c", "listen_addresses=127.0.0.1", "-c", "max_connections=50", "-c", "shared_buffers=16MB",
		"-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")
	server.Stdout, server.Stderr = logFile, logFile
	if err := c.run(server); err != nil {
		return fmt.Errorf("cannot run postgres: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, c.URL("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-c.exited:
			text, _ := os.ReadFile(logFile.Name())
			return fmt.Errorf("postgres ended at once: %s", strings.TrimSpace(string(text)))
		case <-ctx.Done():
			return fmt.Errorf("postgres does not answer: %w", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// run starts the server from a thread that lives as long as the server does:
// the kernel ends it when that thread, not just this process, is gone.
func (c *Cluster) run(server *exec.Cmd) error {
	started, exited := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := server.Start()
		started <- err
		if err == nil {
			server.Wait()
		}
		close(exited)
	}()
	err := <-started
	c.process, c.exited = server.Process, exited
	return err
}

func (c *Cluster) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(c.bin, program), args...)
	cmd.Dir = c.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.dir, "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = attributes(c.owner)
	return cmd
}

func (c *Cluster) data() string { return filepath.Join(c.dir, "data") }

// Dir is the cluster's folder, which also holds the server's socket and log.
func (c *Cluster) Dir() string { return c.dir }

// URL is the superuser's connection string for a database.
func (c *Cluster) URL(database string) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", c.port, database)
}

// Database creates an empty database and returns the superuser's connection
// string for it.
func (c *Cluster) Database(ctx context.Context, name string) (url string, err error) {
	create := "CREATE DATABASE " + pgx.Identifier{name}.Sanitize() + " TEMPLATE template0"
	if _, err := Exec(ctx, c.URL("postgres"), create); err != nil {
		return "", err
	}
	return c.URL(name), nil
}

// Stop ends the server at once and removes the folder.
func (c *Cluster) Stop() error {
	if c.process != nil {
		c.process.Signal(syscall.SIGQUIT)
		select {
		case <-c.exited:
		case <-time.After(10 * time.Second):
			c.process.Kill()
			<-c.exited
		}
	}
	return os.RemoveAll(c.dir)
}
