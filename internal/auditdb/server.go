package auditdb

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// idleTimeout lets the server end a transaction whose reader has stalled
// between two scans: an open snapshot holds back vacuum.
const idleTimeout = 10 * time.Minute

// server is a checked connection string and the limits of its sessions.
type server struct {
	config *pgconn.Config
	wanted name
	where  string // for people: address, database, user; no password
	setup  string // opens the transaction
	pause  time.Duration
}

// sslKeys decide about TLS in a connection string, otherKeys are what else it
// may hold. Anything else is refused, unnamed: it may be a piece of a password
// that should have been escaped.
var (
	sslKeys   = []string{"ssl", "sslmode"}
	otherKeys = []string{
		"host", "port", "dbname", "user", "password", "passfile", "connect_timeout", "target_session_attrs",
		"sslrootcert", "sslcert", "sslkey", "sslpassword", "sslsni", "sslnegotiation", "sslcertmode",
		"channel_binding", "require_auth", "min_protocol_version", "max_protocol_version",
		"krbsrvname", "krbspn", "application_name", "options", "search_path",
	}
)

// parseServer checks the options without touching the network.
func parseServer(o Options) (*server, error) {
	wanted, err := parseName(o.Table)
	if err != nil {
		return nil, err
	}
	if o.URL == "" {
		return nil, misuse("database-url is empty: give postgres://user:password@host:5432/database")
	}
	config, err := parseConfig(o.URL, append(sslKeys, otherKeys...))
	if err != nil {
		return nil, misuse("database-url cannot be read as a PostgreSQL connection string: give postgres://user:password@host:5432/database?sslmode=verify-full with / ? # @ : %% of the password written as %%2F %%3F %%23 %%40 %%3A %%25, and only libpq's parameters")
	}
	// What is left of a password that was not escaped would be taken for part
	// of the host or the database, and shown in errors.
	if strings.ContainsAny(config.Database, "@/") || strings.Contains(config.Host, "@") {
		return nil, misuse("database-url has an @ or / in its host or database, most likely from the password: write @ as %%40 and / as %%2F there")
	}
	_, err = parseConfig(o.URL, otherKeys)
	if err := requireTLS(config, err == nil); err != nil {
		return nil, err
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = or(o.ConnectTimeout, 15*time.Second)
	}
	config.MaxProtocolMessageBodyLen = MaxRow
	config.RuntimeParams["application_name"] = "audit-signer-rotation"
	config.RuntimeParams["client_encoding"] = "UTF8"

	return &server{
		config: config,
		wanted: wanted,
		where:  fmt.Sprintf("PostgreSQL at %s, database %q as user %q", addresses(config), config.Database, config.User),
		pause:  or(o.Pause, 5*time.Second),
		// SET LOCAL, not parameters of the connection: a pooler refuses those
		// and would hand a session's settings on to others. row_security = off
		// makes the server refuse where it would otherwise hide rows.
		setup: fmt.Sprintf(`BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY;
SET LOCAL default_transaction_read_only = on;
SET LOCAL statement_timeout = %d;
SET LOCAL lock_timeout = %d;
SET LOCAL idle_in_transaction_session_timeout = %d;
SET LOCAL row_security = off;
SET LOCAL synchronize_seqscans = off`,
			or(o.StatementTimeout, time.Hour).Milliseconds(), or(o.LockTimeout, 10*time.Second).Milliseconds(), idleTimeout.Milliseconds()),
	}, nil
}

// addresses lists where the server may be, each once.
func addresses(config *pgconn.Config) string {
	list := []string{net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port)))}
	for _, f := range config.Fallbacks {
		if a := net.JoinHostPort(f.Host, strconv.Itoa(int(f.Port))); !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return strings.Join(list, " or ")
}

func parseConfig(url string, keys []string) (*pgconn.Config, error) {
	return pgconn.ParseConfigWithOptions(url, pgconn.ParseConfigOptions{ConnStringAllowedKeys: keys})
}

func or(d, fallback time.Duration) time.Duration {
	if d <= 0 {
		return fallback
	}
	return d
}

// requireTLS holds every host of the configuration that is not this machine to
// an encrypted connection. byDefault says that the connection string has no
// sslmode: then libpq's prefer, which answers whoever is in the way, becomes
// verify-full, whatever the environment says. See
// https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-PROTECTION.
func requireTLS(config *pgconn.Config, byDefault bool) error {
	all := append([]*pgconn.FallbackConfig{{Host: config.Host, Port: config.Port, TLSConfig: config.TLSConfig}}, config.Fallbacks...)
	kept := all[:0:0]
	for i, target := range all {
		switch {
		case isLocal(target.Host):
		case target.TLSConfig != nil && byDefault && isUnverified(target.TLSConfig):
			target.TLSConfig = verifyFull(target.TLSConfig, target.Host)
		case target.TLSConfig != nil:
		case byDefault && i > 0 && all[i-1].TLSConfig != nil && all[i-1].Host == target.Host:
			continue // the plaintext half of prefer
		default:
			return misuse("database-url allows an unencrypted connection to %q, which is not this machine: set sslmode=verify-full (or at least require) there", target.Host)
		}
		kept = append(kept, target)
	}
	config.Host, config.Port, config.TLSConfig, config.Fallbacks = kept[0].Host, kept[0].Port, kept[0].TLSConfig, kept[1:]
	return nil
}

func isUnverified(c *tls.Config) bool {
	return c.InsecureSkipVerify && c.VerifyPeerCertificate == nil
}

// verifyFull is a TLS configuration that verifies nothing made into that of
// sslmode=verify-full.
func verifyFull(c *tls.Config, host string) *tls.Config {
	c = c.Clone()
	c.InsecureSkipVerify = false
	c.ServerName = host
	return c
}

func isLocal(host string) bool {
	if host == "localhost" || strings.HasPrefix(host, "/") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// session is a connection with an open read-only transaction.
type session struct {
	*server
	conn *pgconn.PgConn
}

func (s *server) begin(ctx context.Context) (*session, error) {
	conn, err := pgconn.ConnectConfig(ctx, s.config)
	if err != nil {
		return nil, s.unreachable(ctx, err)
	}
	sess := &session{server: s, conn: conn}
	if err := sess.exec(ctx, s.setup); err != nil {
		sess.close(ctx)
		return nil, err
	}
	return sess, nil
}

// close drops the connection, and with it the transaction and a scan that was
// left before its end.
func (s *session) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	s.conn.Close(ctx)
}

func (s *session) exec(ctx context.Context, sql string) error {
	if _, err := s.conn.Exec(ctx, sql).ReadAll(); err != nil {
		return s.describe(ctx, err)
	}
	return nil
}

// query returns a few rows as text; NULL reads as "".
func (s *session) query(ctx context.Context, sql string, args ...string) ([][]string, error) {
	result := s.conn.ExecParams(ctx, sql, texts(args), nil, nil, nil).Read()
	if result.Err != nil {
		return nil, s.describe(ctx, result.Err)
	}
	if err := s.counted(result.CommandTag, int64(len(result.Rows))); err != nil {
		return nil, err
	}
	rows := make([][]string, len(result.Rows))
	for i, row := range result.Rows {
		for _, value := range row {
			rows[i] = append(rows[i], string(value))
		}
	}
	return rows, nil
}

// texts are parameters in text format.
func texts(args []string) [][]byte {
	params := make([][]byte, len(args))
	for i, arg := range args {
		params[i] = []byte(arg)
	}
	return params
}

// counted holds the rows that came against the server's own count.
func (s *session) counted(tag pgconn.CommandTag, rows int64) error {
	if tag.RowsAffected() == rows {
		return nil
	}
	return &Error{exit: 3, again: true, text: fmt.Sprintf("%s counted %d rows of which %d came: run it again, without a pooler or proxy in between", s.where, tag.RowsAffected(), rows)}
}

// optional returns a single value that the role may be forbidden to read, or
// "". A refusal does not end the transaction.
func (s *session) optional(ctx context.Context, sql string) (string, error) {
	if err := s.exec(ctx, "SAVEPOINT fact"); err != nil {
		return "", err
	}
	rows, err := s.query(ctx, sql)
	if err != nil {
		if s.conn.IsClosed() {
			return "", err
		}
		return "", s.exec(ctx, "ROLLBACK TO SAVEPOINT fact")
	}
	return rows[0][0], nil
}
