package auditdb

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/agent-manager/audit-signer-rotation/internal/auditdb/auditdbtest"
)

// noEnvironment keeps the settings of the machine that runs the tests out.
func noEnvironment(t *testing.T) {
	for _, name := range []string{"PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGPASSWORD", "PGSSLMODE", "PGSSLROOTCERT", "PGSERVICE", "PGSSLNEGOTIATION"} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", t.TempDir())
}

// level tells what a configuration asks of each of its hosts.
func level(c *pgconn.Config) string {
	var levels []string
	for _, f := range append([]*pgconn.FallbackConfig{{Host: c.Host, TLSConfig: c.TLSConfig}}, c.Fallbacks...) {
		switch {
		case f.TLSConfig == nil:
			levels = append(levels, "plain")
		case !f.TLSConfig.InsecureSkipVerify && f.TLSConfig.ServerName == f.Host:
			levels = append(levels, "full")
		case f.TLSConfig.VerifyPeerCertificate != nil:
			levels = append(levels, "ca")
		case f.TLSConfig.InsecureSkipVerify:
			levels = append(levels, "tls")
		}
	}
	return strings.Join(levels, " ")
}

func TestTLS(t *testing.T) {
	noEnvironment(t)
	for _, test := range []struct{ url, environment, want string }{
		{url: "postgres://u@db.example/d", want: "full"},
		{url: "host=db.example user=u", want: "full"},
		{url: "postgres://u@192.0.2.1/d", want: "full"},
		{url: "postgres://u@[2001:db8::1]:5433/d", want: "full"},
		{url: "postgres://u@db.example/d?sslmode=verify-full", want: "full"},
		{url: "postgres://u@db.example/d?sslmode=verify-ca", want: "ca"},
		{url: "postgres://u@db.example/d?sslmode=require", want: "tls"},
		{url: "postgres://u@db.example/d?ssl=true", want: "tls"},
		{url: "postgres://u@db.example/d?sslnegotiation=direct", want: "full"},
		{url: "postgres://u@db.example/d?sslmode=prefer"},
		{url: "postgres://u@db.example/d?sslmode=allow"},
		{url: "postgres://u@db.example/d?sslmode=disable"},
		{url: "host=db.example sslmode=disable"},
		{url: "host=192.0.2.1 sslmode=prefer"},
		{url: "host=127.0.0.1.example sslmode=disable"},
		{url: "host=localhost.example sslmode=disable"},
		{url: "postgres://u@a.example,b.example/d", want: "full full"},
		{url: "postgres://u@a.example:1,a.example:2/d", want: "full full"},
		{url: "postgres://u@localhost,b.example/d", want: "tls plain full"},
		{url: "postgres://u@localhost,b.example/d?sslmode=disable"},
		{url: "postgres://u@b.example,localhost/d?sslmode=prefer"},
		{url: "postgres://u@localhost/d", want: "tls plain"},
		{url: "postgres://u@localhost/d?sslmode=disable", want: "plain"},
		{url: "postgres://u@127.9.9.9/d?sslmode=disable", want: "plain"},
		{url: "postgres://u@[::1]/d?sslmode=disable", want: "plain"},
		{url: "postgres://u@[::ffff:127.0.0.1]/d?sslmode=disable", want: "plain"},
		{url: "host=/run/postgresql user=u", want: "plain"},
		{url: "postgres://u@db.example/d", environment: "disable"},
		{url: "postgres://u@db.example/d", environment: "allow"},
		{url: "postgres://u@db.example/d", environment: "prefer", want: "full"},
		{url: "postgres://u@db.example/d", environment: "require", want: "full"},
		{url: "postgres://u@db.example/d", environment: "verify-ca", want: "ca"},
		{url: "postgres://u@db.example/d?sslmode=require", environment: "disable", want: "tls"},
	} {
		t.Setenv("PGSSLMODE", test.environment)
		srv, err := parseServer(Options{URL: test.url, Table: "audit_events"})
		var refusal *Error
		switch {
		case test.want == "" && (!errors.As(err, &refusal) || refusal.ExitCode() != 2 || !strings.Contains(err.Error(), "sslmode=verify-full")):
			t.Errorf("%s, PGSSLMODE=%s: %v", test.url, test.environment, err)
		case test.want != "" && err != nil:
			t.Errorf("%s, PGSSLMODE=%s: %v", test.url, test.environment, err)
		case test.want != "" && level(srv.config) != test.want:
			t.Errorf("%s, PGSSLMODE=%s: %s, want %s", test.url, test.environment, level(srv.config), test.want)
		}
	}
}

// A server that is not this machine is one whose name says so: here the name
// is looked up by the test.
func TestTLSWithAServer(t *testing.T) {
	noEnvironment(t)
	url := auditdbtest.New(t)
	if err := auditdbtest.CreateTable(t.Context(), url, auditdbtest.AgentManager); err != nil {
		t.Fatal(err)
	}
	connect := func(parameters string) error {
		at := strings.Replace(url, "127.0.0.1", "db.example", 1)
		srv, err := parseServer(Options{URL: at[:strings.IndexByte(at, '?')] + "?" + parameters, Table: "audit_events"})
		if err != nil {
			t.Fatal(err)
		}
		srv.config.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"127.0.0.1"}, nil }
		sess, err := srv.begin(t.Context())
		if err == nil {
			sess.close(t.Context())
		}
		return err
	}
	if err := connect("sslmode=require"); err == nil || !strings.Contains(err.Error(), "offers no TLS") {
		t.Errorf("a server without TLS: %v", err)
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	useTLS(t, url, "db.example", ca)
	for parameters, want := range map[string]string{
		"sslmode=require":   "",
		"sslrootcert=" + ca: "",
		"":                  "unknown authority",
	} {
		if err := connect(parameters); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v", parameters, err)
		}
	}
	useTLS(t, url, "other.example", ca)
	if err := connect("sslrootcert=" + ca); err == nil || !strings.Contains(err.Error(), "another host") {
		t.Errorf("another host's certificate: %v", err)
	}
	if err := connect("sslmode=verify-ca&sslrootcert=" + ca); err != nil {
		t.Error(err)
	}
}

// useTLS gives the server a self-signed certificate, which it also writes to a
// file.
func useTLS(t *testing.T, url, host, file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(file, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	// The server writes its files itself: it refuses a key that others own.
	for name, text := range map[string][]byte{"server.crt": certificate, "server.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})} {
		lines := strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", "','")
		run(t, url, fmt.Sprintf("COPY (SELECT unnest(ARRAY['%s'])) TO PROGRAM 'umask 077; rm -f %s; cat > %s'", lines, name, name))
	}
	run(t, url, "ALTER SYSTEM SET ssl = on")
	run(t, url, "SELECT pg_reload_conf()")
	for {
		config, err := pgconn.ParseConfig(strings.Replace(url, "sslmode=disable", "sslmode=verify-full&sslrootcert="+file, 1))
		if err != nil {
			t.Fatal(err)
		}
		config.TLSConfig.ServerName = host
		if conn, err := pgconn.ConnectConfig(t.Context(), config); err == nil {
			conn.Close(t.Context())
			return
		}
	}
}

func run(t *testing.T, url, sql string) {
	t.Helper()
	if _, err := auditdbtest.Exec(t.Context(), url, sql); err != nil {
		t.Fatal(err)
	}
}

const canary = "c4n4ry"

func TestConnectionStrings(t *testing.T) {
	noEnvironment(t)
	for _, url := range []string{
		"",
		canary,
		"mysql://u:" + canary + "@h/d",
		"postgres://u:" + canary + "@h:port/d",
		"postgres://u:" + canary + "@[::1/d",
		"postgres://u:" + canary + "%zz@h/d",
		"postgres://u:" + canary + "/more@h/d",
		"postgres://u:12/" + canary + "@h/d",
		"postgres://u:12/a?" + canary + "@h/d",
		"postgres://u:12/a?" + canary + "=b@h/d",
		"postgres://u:pass@" + canary + "@h/d",
		"postgres://u:12/" + canary + "/x@localhost/d",
		"postgres://u@h/d?" + canary + "=1",
		"postgres://u@h/d?service=" + canary,
		"postgres://u@h/d?servicefile=" + canary,
		"postgres://u@h/d?pool_max_conns=" + canary,
		"postgres://u@h/d?sslmode=" + canary,
		"postgres://u@h/d?sslrootcert=" + canary,
		"postgres://u@h/d?target_session_attrs=" + canary,
		"postgres://u@h/d?connect_timeout=" + canary,
		"postgres://u:" + canary + "@db.example/d?sslmode=disable",
		"host=h password=" + canary + " user",
		"host=h password=a " + canary + "=b",
		"host=h password='" + canary,
		"user=u password=" + canary + " host=a@b",
		"postgres://u:" + canary + "@h/d\x00",
	} {
		_, err := parseServer(Options{URL: url, Table: "t"})
		var refusal *Error
		if !errors.As(err, &refusal) || refusal.ExitCode() != 2 {
			t.Errorf("%q: %v", url, err)
		} else if strings.Contains(err.Error(), canary) || !strings.Contains(err.Error(), "database-url") {
			t.Errorf("%q is repeated by %v", url, err)
		}
	}
	for url, where := range map[string]string{
		"postgres://us%40er:p%2Fw%40@localhost/d":                          `localhost:5432, database "d" as user "us@er"`,
		"postgresql://u@127.0.0.1:5433":                                    `127.0.0.1:5433, database "" as user "u"`,
		"user=u host=localhost port=1 dbname=x application_name=mine":      `localhost:1, database "x" as user "u"`,
		"postgres://u@localhost:1,[::1]:2/d?search_path=a&options=-cb%3D1": `localhost:1 or [::1]:2, database "d" as user "u"`,
	} {
		srv, err := parseServer(Options{URL: url, Table: "t"})
		if err != nil || srv.where != "PostgreSQL at "+where {
			t.Errorf("%s: %v, %v", url, srv, err)
		}
	}
}

func TestConnectTimeout(t *testing.T) {
	noEnvironment(t)
	for url, want := range map[string]time.Duration{
		"host=localhost":                   time.Minute,
		"host=localhost connect_timeout=7": 7 * time.Second,
	} {
		if srv, err := parseServer(Options{URL: url, Table: "t", ConnectTimeout: time.Minute}); err != nil || srv.config.ConnectTimeout != want {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// Every error on the way to the server has exit code 3 and keeps the secret.
func TestUnreachable(t *testing.T) {
	noEnvironment(t)
	url := auditdbtest.New(t)
	if err := auditdbtest.CreateTable(t.Context(), url, auditdbtest.AgentManager); err != nil {
		t.Fatal(err)
	}
	run(t, url, `CREATE ROLE password; CREATE ROLE clerk LOGIN PASSWORD '`+canary+`' IN ROLE password; CREATE ROLE nobody NOLOGIN IN ROLE password; GRANT SELECT ON audit_events TO clerk`)
	clerk := strings.Replace(url, "postgres@", "clerk:"+canary+"@", 1)
	for o, want := range map[Options][]string{
		{URL: clerk}: nil,
		{URL: strings.Replace(clerk, canary, canary+"x", 1)}:         {"28P01", "check user and password"},
		{URL: strings.Replace(clerk, "clerk", "nobody", 1)}:          {"28", "check user and password"},
		{URL: strings.Replace(clerk, "/test", "/nothing", 1)}:        {"3D000", "check the database's name"},
		{URL: "postgres://u:" + canary + "@127.0.0.1:1/d"}:           {"connection refused", `127.0.0.1:1, database "d" as user "u"`, "check host and port"},
		{URL: silent(t), ConnectTimeout: 50 * time.Millisecond}:      {"no answer within 50ms"},
		{URL: "host=/nowhere user=u password=" + canary}:             {"no such socket"},
		{URL: clerk + "&options=-c%20statement_timeout%3D" + canary}: {"22023", "withheld"},
	} {
		o.Table = "audit_events"
		begun := 0
		err := Read(t.Context(), o, func(context.Context, *Snapshot) error { begun++; return nil })
		switch {
		case want == nil && (err != nil || begun != 1):
			t.Errorf("begun %d times: %v", begun, err)
		case want != nil && (err == nil || err.(*Error).ExitCode() != 3 || begun != 0):
			t.Errorf("want %v, begun %d times: %v", want, begun, err)
		case err != nil && strings.Contains(err.Error(), canary):
			t.Errorf("the password is in %v", err)
		}
		for _, w := range want {
			if err != nil && !strings.Contains(err.Error(), w) {
				t.Errorf("%v, want %q", err, w)
			}
		}
	}
}

// silent is the address of a server that says nothing.
func silent(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return "postgres://u:" + canary + "@" + listener.Addr().String() + "/d"
}

func TestReasons(t *testing.T) {
	noEnvironment(t)
	srv, err := parseServer(Options{URL: "postgres://u:" + canary + "@localhost/d", Table: "t"})
	if err != nil {
		t.Fatal(err)
	}
	for want, cause := range map[string]error{
		"cannot be resolved": &net.DNSError{Name: canary},
		"is not valid":       x509.CertificateInvalidError{Cert: &x509.Certificate{}},
		"withheld":           fmt.Errorf("outer: %w", errors.New("inner "+canary)),
		`"inner"`:            fmt.Errorf("outer: %w", errors.New("inner")),
		"…":                  errors.New(strings.Repeat("x", 300)),
	} {
		err := srv.unreachable(t.Context(), cause)
		if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), canary) || err.ExitCode() != 3 {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
