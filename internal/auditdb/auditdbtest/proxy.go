package auditdbtest

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/url"
	"sync"
)

// Proxy stands between a client and PostgreSQL and cuts connections on
// request. It counts the messages that the server sends; see
// https://www.postgresql.org/docs/current/protocol-message-formats.html.
// Connections that ask for TLS are refused it, so that it can count, and
// requests to cancel a query pass uncounted.
type Proxy struct {
	target   string
	listener net.Listener

	mu    sync.Mutex
	cut   cut
	times int // how many connections are still to be cut; negative: all
	count *count
}

// count belongs to one order of a cut: a connection from before it, which may
// still be ending, counts for the order that it began under.
type count struct{ connections, messages int }

// cut says where a connection ends, or what it loses; a negative limit is none.
type cut struct {
	messages, bytes int
	row             int // this DataRow, counted from 1, does not pass; 0: all do
	reset           bool
}

// NewProxy listens on a port of its own and forwards to the server of a
// connection string, whose URL it must be.
func NewProxy(server string) (*Proxy, error) {
	u, err := url.Parse(server)
	if err != nil {
		return nil, errors.New("the connection string is not a URL")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{target: u.Host, listener: listener, count: &count{}}
	go p.accept()
	return p, nil
}

// URL is the connection string of the same database through the proxy.
func (p *Proxy) URL(server string) string {
	u, err := url.Parse(server)
	if err != nil {
		return ""
	}
	u.Host = p.listener.Addr().String()
	return u.String()
}

// CutAfterMessages ends the next connections, as many as times says or all of
// them if it is negative, once n messages of the server have passed.
func (p *Proxy) CutAfterMessages(n, times int) { p.set(cut{messages: n, bytes: -1}, times) }

// CutAfterBytes does so after n bytes, which may be within a message.
func (p *Proxy) CutAfterBytes(n, times int) { p.set(cut{messages: -1, bytes: n}, times) }

// ResetAfterMessages is CutAfterMessages with a TCP reset instead of an
// orderly end.
func (p *Proxy) ResetAfterMessages(n, times int) {
	p.set(cut{messages: n, bytes: -1, reset: true}, times)
}

// DropRow lets the next connections live but loses the nth row of each.
func (p *Proxy) DropRow(n, times int) { p.set(cut{messages: -1, bytes: -1, row: n}, times) }

func (p *Proxy) set(c cut, times int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut, p.times, p.count = c, times, &count{}
}

// Connections and Messages count since the last call that ordered a cut.
func (p *Proxy) Connections() int { p.mu.Lock(); defer p.mu.Unlock(); return p.count.connections }

// Messages counts what the server sent, over all connections.
func (p *Proxy) Messages() int { p.mu.Lock(); defer p.mu.Unlock(); return p.count.messages }

// Close stops listening; open connections stay.
func (p *Proxy) Close() error { return p.listener.Close() }

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		go p.serve(client.(*net.TCPConn))
	}
}

const (
	cancelRequest = 80877102
	sslRequest    = 80877103
	gssRequest    = 80877104
)

func (p *Proxy) serve(client *net.TCPConn) {
	defer client.Close()
	var first [8]byte
	for {
		if _, err := io.ReadFull(client, first[:]); err != nil {
			return
		}
		if code := binary.BigEndian.Uint32(first[4:]); code != sslRequest && code != gssRequest {
			break
		}
		client.Write([]byte("N"))
	}
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		server.Write(first[:])
		io.Copy(server, client)
		server.(*net.TCPConn).CloseWrite()
	}()
	if binary.BigEndian.Uint32(first[4:]) == cancelRequest {
		io.Copy(client, server)
		return
	}
	limit, count := p.admit()
	if p.forward(client, server, limit, count) && limit.reset {
		client.SetLinger(0)
	}
}

// admit counts a connection and takes its share of the cuts.
func (p *Proxy) admit() (cut, *count) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count.connections++
	if p.times == 0 {
		return cut{messages: -1, bytes: -1}, p.count
	}
	p.times--
	return p.cut, p.count
}

// forward passes the server's messages on until the limit, and tells whether
// that was reached.
func (p *Proxy) forward(client io.Writer, server io.Reader, limit cut, count *count) bool {
	in := bufio.NewReader(server)
	out := io.Writer(client)
	if limit.bytes >= 0 {
		out = &limitedWriter{client, limit.bytes}
	}
	for n, row := 0, 0; n != limit.messages; n++ {
		header, err := in.Peek(5)
		if err != nil {
			return false
		}
		to, size := out, 1+int64(binary.BigEndian.Uint32(header[1:]))
		if header[0] == 'D' {
			if row++; row == limit.row {
				to = io.Discard
			}
		}
		if _, err := io.CopyN(to, in, size); err != nil {
			return errors.Is(err, io.ErrShortWrite)
		}
		p.mu.Lock()
		count.messages++
		p.mu.Unlock()
	}
	return true
}

// limitedWriter passes n bytes on and then fails.
type limitedWriter struct {
	w io.Writer
	n int
}

func (l *limitedWriter) Write(b []byte) (int, error) {
	if len(b) <= l.n {
		l.n -= len(b)
		return l.w.Write(b)
	}
	n, err := l.w.Write(b[:l.n])
	l.n -= n
	if err == nil {
		err = io.ErrShortWrite
	}
	return n, err
}
