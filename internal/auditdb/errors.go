package auditdb

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

// Error says in one line why the audit table could not be read and what to do
// about it. It never holds the driver's error, which knows the password.
type Error struct {
	text        string
	exit        int
	again       bool  // a new snapshot may succeed
	unreachable bool  // no connection; a new attempt makes sense only after one that had one
	cause       error // the context's error, or nil
}

func (e *Error) Error() string { return e.text }

// ExitCode is 2 where the options or the table must change and 3 where the
// database could not be read.
func (e *Error) ExitCode() int { return e.exit }

// Unwrap gives the context's error, if that ended the reading.
func (e *Error) Unwrap() error { return e.cause }

func misuse(format string, args ...any) *Error {
	return &Error{exit: 2, text: fmt.Sprintf(format, args...)}
}

// describe turns an error of the driver on an open connection into one for
// people.
func (s *server) describe(ctx context.Context, err error) *Error {
	var own *Error
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &own):
		return own
	case ctx.Err() != nil:
		return &Error{exit: 3, cause: ctx.Err(), text: fmt.Sprintf("reading the audit table from %s was stopped before its end (%v): run it again, with more time if a deadline ended it", s.where, ctx.Err())}
	case errors.As(err, &pg):
		return s.refused(pg)
	}
	return &Error{exit: 3, again: true, text: fmt.Sprintf("the connection to %s broke before the last row (%s): run it again when the server is up", s.where, s.reason(err))}
}

// refused describes an error that the server itself reported. SQLSTATE codes:
// https://www.postgresql.org/docs/current/errcodes-appendix.html.
func (s *server) refused(pg *pgconn.PgError) *Error {
	e := &Error{exit: 3}
	advice := "look into the server's log"
	switch code := pg.Code; {
	case strings.HasPrefix(code, "08"), strings.HasPrefix(code, "40"), strings.HasPrefix(code, "57P0"):
		e.again = true
		advice = "run it again when the server is up"
	case code == "28P01" || code == "28000":
		advice = "check user and password in database-url, and that pg_hba.conf admits this user from here"
	case code == "3D000":
		advice = "check the database's name in database-url"
	case code == "42501" && pg.Routine == "check_enable_rls":
		advice = "row-level security would hide rows from this role: use one with BYPASSRLS, or the table's owner"
	case code == "42501" && pg.Routine == "CheckMyDatabase":
		advice = fmt.Sprintf("let the database's owner run GRANT CONNECT ON DATABASE %s TO %s", quote(s.config.Database), quote(s.config.User))
	case code == "42501":
		advice = fmt.Sprintf("let the table's owner run GRANT SELECT ON %s TO %s, and GRANT USAGE on its schema if that is not public", s.wanted.sql(), quote(s.config.User))
	case code == "53300":
		advice = "wait for a free connection, or give this role one"
	case code == "55P03":
		advice = "another session holds the table's lock: run it again when that is done"
	case code == "57014":
		advice = "the scan took longer than the statement timeout: allow more time"
	case code == "25006":
		advice = "reading this table or view writes something, which an audit must not"
	}
	e.text = fmt.Sprintf("%s refused (%s, code %s): %s", s.where, s.quoteText(pg.Message), pg.Code, advice)
	return e
}

// unreachable describes why no connection came about.
func (s *server) unreachable(ctx context.Context, err error) *Error {
	var pg *pgconn.PgError
	switch {
	case ctx.Err() != nil:
		return s.describe(ctx, err)
	case errors.As(err, &pg):
		return s.refused(pg)
	case isTLS(err):
		return &Error{exit: 3, unreachable: true, text: fmt.Sprintf("cannot trust %s: %s; give the server's authority with sslrootcert=FILE in database-url, and let the host there be one that its certificate names", s.where, s.reason(err))}
	}
	e := &Error{exit: 3, unreachable: true}
	e.again = errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
	e.text = fmt.Sprintf("cannot reach %s: %s; check host and port in database-url, and that the server accepts connections from here", s.where, s.reason(err))
	return e
}

func isTLS(err error) bool {
	var verify *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	return errors.As(err, &verify) || errors.As(err, &record) || errors.As(err, &alert)
}

// reason names the innermost cause that people can use.
func (s *server) reason(err error) string {
	var dns *net.DNSError
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &dns):
		return "its host name cannot be resolved"
	case errors.As(err, &unknown):
		return "its certificate is signed by an unknown authority"
	case errors.As(err, &host):
		return "its certificate is for another host"
	case errors.As(err, &invalid):
		return "its certificate is not valid"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "connection reset"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "connection closed by the other side"
	case errors.Is(err, fs.ErrNotExist):
		return "there is no such socket"
	case strings.Contains(err.Error(), "server refused TLS connection"):
		return "it offers no TLS, and sslmode requires it"
	case pgconn.Timeout(err), errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("no answer within %v", s.config.ConnectTimeout)
	}
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return s.quoteText(err.Error())
}

// quoteText quotes foreign text, shortened, and withholds it if it repeats the
// password.
func (s *server) quoteText(text string) string {
	if s.config.Password != "" && strings.Contains(text, s.config.Password) {
		return "text withheld, it holds the password"
	}
	if len(text) > 200 {
		text = text[:200] + "…"
	}
	return fmt.Sprintf("%q", text)
}
